//! Their way to ask for part of a list.

use ensync_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The most items of a page, and how many it has if nobody says.
const MAX_PAGE: usize = 100;
const PAGE: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(super) enum Order {
    #[default]
    #[serde(alias = "asc")]
    #[schema(rename = "ASC")]
    #[serde(rename = "ASC")]
    Ascending,
    #[serde(alias = "desc")]
    #[schema(rename = "DESC")]
    #[serde(rename = "DESC")]
    Descending,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum By {
    #[default]
    Name,
    CreatedAt,
    /// What their command line says for access keys: by id.
    Key,
}

/// Which part of a list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Which page, from 0 on.
    page_index: Option<usize>,
    /// How many items a page has: 1 to 100. 10 if it is not said.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// ASC or DESC.
    #[param(inline)]
    order: Option<Order>,
    /// What decides the order. Event names and workspaces have no time of creation here: by `createdAt` they come by name.
    #[param(inline)]
    order_by: Option<By>,
    /// Only those whose name holds this.
    pub(super) name: Option<String>,
    /// Only this one: an access key, or the id of one. For access keys.
    pub(super) access_key: Option<String>,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    /// How many there are on all pages.
    pub(super) results_length: usize,
    pub(super) results: Vec<T>,
}

impl Listing {
    pub(super) fn by(&self) -> By {
        self.order_by.unwrap_or_default()
    }

    /// Whether a name is asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|part| name.contains(part))
    }

    /// The page of what is in ascending order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the limit is out of its range.
    pub(super) fn page<T>(&self, mut all: Vec<T>) -> Result<Page<T>> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("limit is {limit}, it can be 1 to {MAX_PAGE}")));
        }
        if self.order == Some(Order::Descending) {
            all.reverse();
        }
        let first = self.page_index.unwrap_or(0).saturating_mul(limit);
        let results_length = all.len();
        Ok(Page { results_length, results: all.into_iter().skip(first).take(limit).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_from_zero_in_either_order() {
        let listing = |page_index, limit, order| Listing { page_index, limit, order, ..Listing::default() };
        let page = |listing: Listing| listing.page((0..25).collect::<Vec<_>>()).unwrap().results;
        assert_eq!(page(listing(None, None, None)), (0..10).collect::<Vec<_>>());
        assert_eq!(page(listing(Some(2), Some(10), None)), (20..25).collect::<Vec<_>>());
        assert_eq!(page(listing(Some(1), Some(2), Some(Order::Descending))), [22, 21]);
        assert!(page(listing(Some(usize::MAX), Some(100), None)).is_empty());
        for limit in [0, 101] {
            assert!(listing(None, Some(limit), None).page(vec![1]).is_err());
        }
    }
}
