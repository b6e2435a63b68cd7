//! Keys that are compared, in a form that an index takes: Postgres refuses rows of an index that are longer than 2,704 bytes.

/// Longest key that is stored as it is, in bytes of UTF-8. Beside it, an index row has room for an environment and a task.
pub const MAX_INDEXED_BYTES: usize = 2048;
/// Longest id of a task beside such a key, in bytes of UTF-8.
pub const MAX_TASK_BYTES: usize = 512;

/// A key as it is stored and looked up: itself, or if it is longer than [`MAX_INDEXED_BYTES`], as only one of letters of several
/// bytes can be, its digest. No two keys have the same.
pub fn indexed(key: String) -> String {
    if key.len() <= MAX_INDEXED_BYTES { key } else { format!("blake3:{}", blake3::hash(key.as_bytes()).to_hex()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_itself_unless_no_index_would_take_it() {
        let most = "x".repeat(MAX_INDEXED_BYTES);
        assert_eq!(indexed(most.clone()), most);
        let (one, other) = (indexed("é".repeat(1025)), indexed("é".repeat(1026)));
        assert!(one.starts_with("blake3:") && one.len() < 100 && one != other, "{one}");
    }
}
