//! Environment variables: a guest sees them, also after it was restored elsewhere, and they outlive a change of the key that they are
//! encrypted with.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::support::{guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);
const PATH: &str = "/api/v1/projects/proj_dev/envvars/dev";
const NEW_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn set(server: &Server, name: &str, value: &str) {
    server.post(PATH, &json!({"name": name, "value": value, "isSecret": true})).await;
}

fn seen(run: &Value) -> [&str; 3] {
    ["before", "kept", "after"].map(|place| run["output"][place].as_str().unwrap_or("nothing"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sees_its_variables_also_after_a_restore_and_a_change_of_the_encryption_key() {
    let mut server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    set(&server, "FIRST", "a-value-to-look-for").await;
    set(&server, "SECOND", "as-it-was").await;
    let in_the_clear = super::files(server.data()).into_iter().filter(|file| holds(file, b"a-value-to-look-for"));
    assert_eq!(in_the_clear.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new(), "no file has the value, not even the log");

    let first = server.trigger("variables", json!({"name": "FIRST", "ms": 0})).await;
    let first = server.run_with_status(&first, "COMPLETED", WITHIN).await;
    assert_eq!(seen(&first), ["a-value-to-look-for"; 3]);
    let asleep = server.trigger("variables", json!({"name": "SECOND", "ms": 3000})).await;
    server.run_with_status(&asleep, "WAITING", WITHIN).await;
    set(&server, "SECOND", "as-it-is").await;

    server.kill();
    let old_key = fs::read_to_string(server.data().join("encryption.key")).unwrap();
    let refused = server.refuses_to_start(&["--encryption-key", NEW_KEY]);
    assert!(refused.contains("--decryption-keys"), "{refused}");
    server.start_again_with(&["--grace", "0ms", "--encryption-key", NEW_KEY, "--decryption-keys", &old_key]).await;
    let woken = server.run_with_status(&asleep, "COMPLETED", WITHIN).await;
    assert_eq!(seen(&woken), ["as-it-was", "as-it-was", "as-it-is"]);
    assert_eq!(woken["attemptCount"], json!(1));

    // They were encrypted anew at the start, so the old key is needed no more.
    server.kill();
    server.start_again_with(&["--encryption-key", NEW_KEY]).await;
    let again = server.trigger("variables", json!({"name": "FIRST", "ms": 0})).await;
    assert_eq!(seen(&server.run_with_status(&again, "COMPLETED", WITHIN).await), ["a-value-to-look-for"; 3]);
}

fn holds(file: &std::path::Path, text: &[u8]) -> bool {
    let Ok(bytes) = fs::read(file) else { return false };
    bytes.windows(text.len()).any(|window| window == text)
}
