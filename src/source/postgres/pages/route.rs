//! In which order a chunk's pages are read, and which of them the server must read. Pure.
//!
//! Pages are asked for in windows. The first is small: if too many of its pages are on the list, the rest of the
//! chunk is read by COPY. The pages of the list come last.

use std::ops::Range;

use super::super::slice::LAST_PAGE;

/// Pages of the first window, and of the others.
const WINDOWS: (u64, u64) = (256, 65_536);
/// The rest is read by COPY once more than one page of this many is on the list.
const ONE_OF: u64 = 4;

/// What to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These pages.
    Pages(Range<u64>),
    /// The rows of these pages, by COPY.
    Rows(Range<u64>),
    /// The rows of all pages of the list, by COPY.
    Listed(Vec<Range<u64>>),
    /// Nothing.
    End,
}

/// The pages of a chunk.
#[derive(Debug)]
pub(super) struct Route {
    /// Pages that are not asked for yet.
    left: Range<u64>,
    /// The window that is being read.
    window: Range<u64>,
    /// Pages of the window that are on the list.
    refused: u64,
    /// Pages that the server must read, in order.
    listed: Vec<Range<u64>>,
    /// Pages that were taken, and pages that the server reads.
    counts: (u64, u64),
}

impl Route {
    /// A chunk of these pages.
    pub(super) fn new(pages: Range<u64>) -> Self {
        let pages = pages.start..pages.end.min(LAST_PAGE).max(pages.start);
        Self { window: pages.start..pages.start, left: pages, refused: 0, listed: Vec::new(), counts: (0, 0) }
    }

    /// Puts a page of the window on the list.
    pub(super) fn list(&mut self, page: u64) {
        self.refused += 1;
        match self.listed.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => self.listed.push(page..page + 1),
        }
    }

    /// What comes after the last window, which was read whole, or after other rows.
    pub(super) fn next(&mut self) -> Next {
        let read = self.window.end - self.window.start;
        let is_worth_it = self.refused * ONE_OF <= read;
        self.counts.0 += read - self.refused.min(read);
        self.counts.1 += self.refused;
        self.refused = 0;
        self.window = self.left.start..self.left.start;
        if !self.left.is_empty() {
            if !is_worth_it {
                let rest = std::mem::replace(&mut self.left, 0..0);
                self.window = 0..0;
                self.counts.1 += rest.end - rest.start;
                return Next::Rows(rest);
            }
            let size = if self.counts == (0, 0) { WINDOWS.0 } else { WINDOWS.1 };
            let end = self.left.end.min(self.left.start + size);
            self.window = self.left.start..end;
            self.left.start = end;
            return Next::Pages(self.window.clone());
        }
        match std::mem::take(&mut self.listed) {
            listed if listed.is_empty() => Next::End,
            listed => Next::Listed(listed),
        }
    }

    /// The window that is being read.
    pub(super) fn window(&self) -> Range<u64> {
        self.window.clone()
    }

    /// Pages that were taken, and pages that the server read.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.counts
    }
}

/// SQL that reads the rows of some ranges of pages, each page once. Ranges that are joined by OR, or by LATERAL
/// without OFFSET, are planned as a scan of the whole table.
pub(super) fn listed_rows(list: &str, table: &str, ranges: &[Range<u64>]) -> String {
    let tids = |pages: &mut dyn Iterator<Item = u64>| {
        pages.map(|page| format!("\"({},0)\"", page.min(LAST_PAGE))).collect::<Vec<_>>().join(",")
    };
    format!(
        "SELECT s.* FROM ROWS FROM (pg_catalog.unnest('{{{}}}'::pg_catalog._tid), \
                                    pg_catalog.unnest('{{{}}}'::pg_catalog._tid)) p(a, b), \
         LATERAL (SELECT {list} FROM ONLY {table} t WHERE t.ctid >= p.a AND t.ctid < p.b OFFSET 0) s",
        tids(&mut ranges.iter().map(|range| range.start)),
        tids(&mut ranges.iter().map(|range| range.end)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of a chunk in which `refuse` says which pages are on the list.
    fn steps(pages: Range<u64>, refuse: impl Fn(u64) -> bool) -> (Vec<Next>, (u64, u64)) {
        let mut route = Route::new(pages);
        let mut steps = Vec::new();
        loop {
            let next = route.next();
            if let Next::Pages(window) = &next {
                window.clone().filter(|page| refuse(*page)).for_each(|page| route.list(page));
            }
            steps.push(next.clone());
            if next == Next::End {
                return (steps, route.counts());
            }
        }
    }

    #[test]
    fn windows_follow_one_another_and_the_list_comes_last() {
        let (found, counts) = steps(10..90_000, |page| matches!(page, 11 | 12 | 89_999));
        let listed = Next::Listed(vec![11..13, 89_999..90_000]);
        assert_eq!(
            found,
            [Next::Pages(10..266), Next::Pages(266..65_802), Next::Pages(65_802..90_000), listed, Next::End]
        );
        assert_eq!(counts, (89_987, 3));
        assert_eq!(steps(5..5, |_| true).0, [Next::End]);
    }

    #[test]
    fn the_rest_is_read_by_copy_if_too_many_pages_are_on_the_list() {
        let (found, counts) = steps(0..1000, |page| page % 3 == 0 && page < 30 || page > 180);
        assert_eq!(found[0..2], [Next::Pages(0..256), Next::Rows(256..1000)]);
        let [.., Next::Listed(listed), Next::End] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(listed.last(), Some(&(181..256)));
        assert_eq!(counts.0 + counts.1, 1000);
    }

    #[test]
    fn every_page_is_read_once() {
        for (end, one_of) in [(1, 1), (256, 2), (257, 5), (80_000, 7)] {
            let mut seen = vec![0u8; end as usize];
            let mut mark = |pages: &Range<u64>| pages.clone().for_each(|page| seen[page as usize] += 1);
            for step in steps(0..end, |page| page % one_of == 0).0 {
                match step {
                    Next::Pages(pages) => pages.filter(|p| p % one_of != 0).for_each(|p| mark(&(p..p + 1))),
                    Next::Rows(pages) => mark(&pages),
                    Next::Listed(pages) => pages.iter().for_each(&mut mark),
                    Next::End => {}
                }
            }
            assert!(seen.iter().all(|times| *times == 1), "{end} {one_of}");
        }
    }
}
