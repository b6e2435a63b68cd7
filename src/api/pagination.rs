//! Pages and filters in queries. Source: facts 6.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Error, when};
use crate::{
    model::id::{Id, Kind},
    store::{Listing, Page, Start},
};

const DEFAULT_SIZE: u32 = 25;
const MAX_SIZE: u32 = 100;
/// Last page that can be asked for by its number.
const MAX_PAGE: u32 = 1_000_000;

/// A first and a last moment, each if there is one.
pub(super) type Range = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// A query's parameters, read by name because of the brackets in them.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let query: Result<Query<Vec<(String, String)>>, _> = Query::try_from_uri(&parts.uri);
        let Query(pairs) = query.map_err(|error| Error::query("", error.body_text()))?;
        // No text of ours has one, for Postgres has none.
        match pairs.iter().find(|(_, value)| value.contains('\0')) {
            Some((name, _)) => Err(Error::query(name, "must not contain NUL")),
            None => Ok(Parameters(pairs)),
        }
    }
}

impl Parameters {
    /// Those of something that is no query, but says the same.
    pub(super) fn of(pairs: Vec<(&'static str, String)>) -> Parameters {
        Parameters(pairs.into_iter().map(|(name, text)| (name.to_owned(), text)).collect())
    }

    /// The parameter's text; empty is as good as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A comma-separated list.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.text(name).into_iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty()).map(String::from).collect()
    }

    /// A comma-separated list of what `parse` knows; `known` says what that is.
    pub(super) fn list_of<T>(&self, name: &str, known: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Error> {
        let unknown = |text: &str| Error::query(name, format!("{text:?} is unknown; write any of {known}"));
        self.list(name).iter().map(|text| parse(text).ok_or_else(|| unknown(text))).collect()
    }

    /// An id of this kind.
    pub(super) fn id<K: Kind>(&self, name: &str) -> Result<Option<Id<K>>, Error> {
        self.text(name).map(|text| text.parse().map_err(|error| Error::query(name, format!("{error}")))).transpose()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.text(name).map(|text| text.parse().map_err(|_| Error::query(name, "write true or false"))).transpose()
    }

    /// Refuses filters that would be ignored: who filters by them must not get everything instead.
    pub(super) fn without(&self, names: &[&str]) -> Result<(), Error> {
        match names.iter().find(|name| self.text(name).is_some()) {
            Some(name) => Err(Error::query(name, "this filter is not available in this version")),
            None => Ok(()),
        }
    }

    /// `page[size]`, at most 100.
    pub(super) fn size(&self) -> Result<u32, Error> {
        let Some(text) = self.text("page[size]") else { return Ok(DEFAULT_SIZE) };
        let size = text.parse().ok().filter(|size| (1..=MAX_SIZE).contains(size));
        size.ok_or_else(|| Error::query("page[size]", format!("write a number from 1 to {MAX_SIZE}")))
    }

    /// `page[size]`, `page[after]`, `page[before]`.
    pub(super) fn page<K: Kind>(&self) -> Result<Page<K>, Error> {
        let start = match (self.text("page[after]"), self.text("page[before]")) {
            (None, None) => Start::Newest,
            (Some(after), None) => Start::After(cursor("page[after]", after)?),
            // Clients that go back from a page send along where that began.
            (_, Some(before)) => Start::Before(cursor("page[before]", before)?),
        };
        Ok(Page { size: self.size()?, start })
    }

    /// `page` and `perPage`, for lists whose pages have numbers.
    pub(super) fn offset_page(&self, default_size: u32) -> Result<OffsetPage, Error> {
        let read = |name: &str, default: u32, most: u32| {
            let Some(text) = self.text(name) else { return Ok(default) };
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| Error::query(name, format!("write a number from 1 to {most}")))
        };
        Ok(OffsetPage { number: read("page", 1, MAX_PAGE)?, size: read("perPage", default_size, MAX_SIZE)? })
    }

    /// `<name>[from]` and `<name>[to]` (milliseconds since 1970, or a date), or `<name>[period]` (a duration up to now); plain
    /// `from`, `to` and `period` if the name is empty.
    pub(super) fn range(&self, name: &str, now: DateTime<Utc>) -> Result<Range, Error> {
        let key = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}[{part}]") };
        let edge = |edge: &str| -> Result<Option<DateTime<Utc>>, Error> {
            let name = key(edge);
            let Some(text) = self.text(&name) else { return Ok(None) };
            let time = text.parse().ok().and_then(DateTime::from_timestamp_millis).or_else(|| when::moment(text, now));
            time.map(Some).ok_or_else(|| Error::query(&name, "write milliseconds since 1970, or a date"))
        };
        let (from, to) = (edge("from")?, edge("to")?);
        let period = key("period");
        let Some(text) = self.text(&period) else { return Ok((from, to)) };
        let ms = when::duration_ms(text).and_then(|ms| i64::try_from(ms).ok()).and_then(chrono::TimeDelta::try_milliseconds);
        let start = ms.and_then(|ms| now.checked_sub_signed(ms));
        let start = start.ok_or_else(|| Error::query(&period, when::DURATION_HINT))?;
        Ok((from.or(Some(start)), to))
    }
}

fn cursor<K: Kind>(name: &str, text: &str) -> Result<Id<K>, Error> {
    Id::from_str(text).map_err(|error| Error::query(name, format!("{error}; take it from the last page")))
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Paged<T> {
    /// The entries.
    pub(super) data: Vec<T>,
    /// Where the list goes on.
    pub(super) pagination: Pagination,
}

/// Where a list goes on; a side without more has no cursor.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Pagination {
    /// To be sent as `page[after]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// To be sent as `page[before]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<String>,
}

/// A page by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetPage {
    /// From 1.
    pub(super) number: u32,
    /// Entries of a page.
    pub(super) size: u32,
}

impl OffsetPage {
    /// Entries before it.
    pub(super) fn offset(self) -> u32 {
        (self.number - 1) * self.size
    }
}

/// One page of a list whose pages have numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OffsetPaged<T> {
    /// The entries.
    data: Vec<T>,
    /// Which page of how many.
    pagination: OffsetPagination,
}

/// Which page of how many.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OffsetPagination {
    /// From 1.
    current_page: u32,
    /// 0 for an empty list.
    total_pages: u64,
    /// Entries of the whole list.
    count: u64,
}

impl<T> OffsetPaged<T> {
    /// The page with these entries of `count`.
    pub(super) fn of(data: Vec<T>, page: OffsetPage, count: u64) -> OffsetPaged<T> {
        let total_pages = count.div_ceil(u64::from(page.size));
        OffsetPaged { data, pagination: OffsetPagination { current_page: page.number, total_pages, count } }
    }
}

impl<T> Paged<T> {
    /// Shows every entry of a listing.
    pub(super) fn of<E, K: Kind>(listing: Listing<E, K>, show: impl FnMut(E) -> T) -> Paged<T> {
        let cursor = |id: Option<Id<K>>| id.map(|id| id.to_string());
        let pagination = Pagination { next: cursor(listing.next), previous: cursor(listing.previous) };
        Paged { data: listing.items.into_iter().map(show).collect(), pagination }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{RunId, RunKind};

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_page_is_read_and_its_limits_are_said() {
        let id = RunId::new();
        let page = parameters(&[("page[size]", "5"), ("page[after]", &id.to_string())]).page::<RunKind>().unwrap();
        assert!(page.size == 5 && matches!(page.start, Start::After(after) if after == id));
        for wrong in
            [[("page[size]", "0"), ("x", "")], [("page[size]", "101"), ("x", "")], [("page[after]", "nonsense"), ("x", "")]]
        {
            assert!(parameters(&wrong).page::<RunKind>().is_err(), "{wrong:?}");
        }
        let back = parameters(&[("page[after]", &id.to_string()), ("page[before]", &id.to_string())]);
        assert!(matches!(back.page::<RunKind>().unwrap().start, Start::Before(before) if before == id), "as clients go back");
    }

    #[test]
    fn a_page_with_a_number_is_read_and_its_limits_are_said() {
        let page = parameters(&[("page", "3"), ("perPage", "100")]).offset_page(20).unwrap();
        assert_eq!((page.offset(), page.size), (200, 100));
        assert_eq!(parameters(&[]).offset_page(20).unwrap(), OffsetPage { number: 1, size: 20 });
        for wrong in [("page", "0"), ("page", "x"), ("page", "1000001"), ("perPage", "0"), ("perPage", "101")] {
            assert!(parameters(&[wrong]).offset_page(20).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_range_is_given_by_edges_or_by_a_period() {
        let now: DateTime<Utc> = "2026-01-02T00:00:00Z".parse().unwrap();
        let range = |name: &str, value: &str| parameters(&[(name, value)]).range("filter[createdAt]", now);
        let from = Some("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(range("filter[createdAt][period]", "1d").unwrap(), (from, None));
        assert_eq!(range("filter[createdAt][from]", "1767225600000").unwrap(), (from, None));
        assert_eq!(range("filter[createdAt][to]", "2026-01-01").unwrap(), (None, from));
        let plain = parameters(&[("period", "1d"), ("to", "2026-01-01")]).range("", now).unwrap();
        assert_eq!(plain, (from, from));
        assert!(range("filter[createdAt][period]", "soon").is_err());
        assert!(range("filter[createdAt][from]", "soon").is_err());
    }
}
