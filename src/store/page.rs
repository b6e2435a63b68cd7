//! Pages of a list, newest first: ids sort by time, so the cursor is an id. Source: facts 6.

use uuid::Uuid;

use crate::model::id::Id;

/// Most entries of one page.
const MAX_SIZE: u32 = 100;

/// Which page.
pub struct Page<K> {
    /// Entries to return; more than 100 are 100, none is one.
    pub size: u32,
    /// Where it begins.
    pub start: Start<K>,
}

/// Where a page begins.
pub enum Start<K> {
    /// At the newest.
    Newest,
    /// After this one: older ones.
    After(Id<K>),
    /// Before this one: newer ones, up to it.
    Before(Id<K>),
}

impl<K> Clone for Start<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Start<K> {}
impl<K> Clone for Page<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Page<K> {}

/// One page.
pub struct Listing<T, K> {
    /// The entries, newest first.
    pub items: Vec<T>,
    /// There are older ones, after this one.
    pub next: Option<Id<K>>,
    /// There are newer ones, before this one.
    pub previous: Option<Id<K>>,
}

/// What a query needs to know of a page: ids below `below` or above `above`, `ascending` or not, at most `limit`. The
/// query asks for one entry more than the page has, which says whether the list goes on.
pub(super) struct Cut {
    pub(super) below: Option<Uuid>,
    pub(super) above: Option<Uuid>,
    pub(super) limit: i64,
}

impl<K> Page<K> {
    fn size(&self) -> usize {
        self.size.clamp(1, MAX_SIZE) as usize
    }

    pub(super) fn cut(&self) -> Cut {
        let limit = self.size() as i64 + 1;
        match self.start {
            Start::Newest => Cut { below: None, above: None, limit },
            Start::After(id) => Cut { below: Some(id.uuid()), above: None, limit },
            Start::Before(id) => Cut { below: None, above: Some(id.uuid()), limit },
        }
    }

    /// Makes the page of what the query found, in the query's order: newest first, or oldest first if the page is before
    /// some entry.
    pub(super) fn listing<T>(&self, mut found: Vec<T>, id: impl Fn(&T) -> Id<K>) -> Listing<T, K> {
        let goes_on = found.len() > self.size();
        found.truncate(self.size());
        let is_before = matches!(self.start, Start::Before(_));
        if is_before {
            found.reverse();
        }
        let (first, last) = (found.first().map(&id), found.last().map(&id));
        let (next, previous) = match self.start {
            Start::Newest => (last.filter(|_| goes_on), None),
            Start::After(_) => (last.filter(|_| goes_on), first),
            Start::Before(_) => (last, first.filter(|_| goes_on)),
        };
        Listing { items: found, next, previous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{RunId, RunKind};

    #[test]
    fn a_page_says_whether_there_is_more_on_either_side() {
        let ids: Vec<RunId> = (1..=3).map(|n| RunId::from_uuid(Uuid::from_u128(n))).collect();
        let page = |start: Start<RunKind>, found: &[RunId]| {
            let listing = Page { size: 2, start }.listing(found.to_vec(), |id| *id);
            (listing.items, listing.previous, listing.next)
        };
        assert_eq!(page(Start::Newest, &[ids[2], ids[1]]), (vec![ids[2], ids[1]], None, None));
        assert_eq!(page(Start::Newest, &[ids[2], ids[1], ids[0]]), (vec![ids[2], ids[1]], None, Some(ids[1])));
        assert_eq!(page(Start::After(ids[1]), &[ids[0]]), (vec![ids[0]], Some(ids[0]), None));
        assert_eq!(page(Start::Before(ids[0]), &[ids[1], ids[2]]), (vec![ids[2], ids[1]], None, Some(ids[1])));
        assert_eq!(page(Start::Newest, &[]), (vec![], None, None));
    }
}
