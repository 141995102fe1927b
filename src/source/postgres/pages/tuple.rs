//! The rows of a page, as a binary COPY sends them. A page is taken whole or not at all.
//!
//! Transactions, row locks and links of a tuple are never looked at: on a page whose rows are visible to
//! everybody they belong to transactions that failed, or to locks.

use super::page::Page;
use super::value::{self, Wire};
use crate::failpoint;

/// Size of a tuple's header without its bits for NULL.
const HEADER: usize = 23;
/// Most columns of a table.
const COLUMNS: u16 = 0x07ff;
/// Whether the tuple has bits for NULL.
const HAS_NULLS: u16 = 0x0001;
/// Length word of NULL.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// How many bytes a column's values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// As many as this.
    Bytes(usize),
    /// As their header says.
    Varlena,
    /// Up to the first zero.
    Text,
}

/// A column of the table, also one that was dropped or is not exported.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    /// How many bytes its values have.
    pub(super) width: Width,
    /// Values begin at multiples of this, a power of two.
    pub(super) alignment: usize,
    /// Whether rows that are older than the column have a value that the catalogue holds.
    pub(super) has_missing: bool,
    /// Place in the exported row; none if it is not exported.
    pub(super) place: Option<usize>,
}

/// All columns of a table, in the order of their numbers, and those that are exported.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    attributes: Vec<Attribute>,
    /// How exported values are sent, by place.
    wires: Vec<Wire>,
    /// Number of columns up to the last exported one.
    needed: usize,
}

/// Why a page is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The server must read it.
    Listed,
    /// A row has more columns than the snapshot shows. No snapshot can show such a row.
    Newer,
}

/// Turns pages into rows.
pub(super) struct Taker {
    layout: Layout,
    /// Whether the mark of a page counts: always, except in tests of tests.
    looks: bool,
    /// Where the exported values of a tuple are: start and end; none for NULL.
    found: Vec<Option<(u32, u32)>>,
}

impl Layout {
    /// `attributes` by number; `wires` by place in the exported row.
    pub(super) fn new(attributes: Vec<Attribute>, wires: Vec<Wire>) -> Self {
        let needed = attributes.iter().rposition(|a| a.place.is_some()).map_or(0, |last| last + 1);
        Self { attributes, wires, needed }
    }
}

impl Taker {
    pub(super) fn new(layout: Layout) -> Self {
        let looks = !failpoint::is_left_out("look", "visible");
        Self { found: vec![None; layout.wires.len()], layout, looks }
    }

    /// Appends the rows of a page and says how many there are. If the page is refused, nothing is appended.
    pub(super) fn take(&mut self, page: &[u8], out: &mut Vec<u8>) -> Result<u32, Refused> {
        let tuples = match Page::of(page, self.looks) {
            Page::New => return Ok(0),
            Page::Doubtful => return Err(Refused::Listed),
            Page::Tuples(tuples) => tuples,
        };
        let start = out.len();
        let mut rows = 0;
        for tuple in tuples {
            if let Err(refused) = self.row(tuple, out) {
                out.truncate(start);
                return Err(refused);
            }
            rows += 1;
        }
        Ok(rows)
    }

    fn row(&mut self, tuple: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        let header = Header::of(tuple).ok_or(Refused::Listed)?;
        if header.columns > self.layout.attributes.len() {
            return Err(Refused::Newer);
        }
        self.find(&header).ok_or(Refused::Listed)?;
        out.extend_from_slice(&(self.layout.wires.len() as u16).to_be_bytes());
        for (wire, found) in self.layout.wires.iter().zip(&self.found) {
            match *found {
                None => out.extend_from_slice(&NULL),
                Some((start, end)) => {
                    let stored = header.data.get(start as usize..end as usize).ok_or(Refused::Listed)?;
                    value::put(wire, stored, out).ok_or(Refused::Listed)?;
                }
            }
        }
        Ok(())
    }

    /// Finds the exported values.
    #[inline]
    fn find(&mut self, header: &Header<'_>) -> Option<()> {
        let Header { data, nulls, columns } = *header;
        let mut at = 0usize;
        for (number, attribute) in self.layout.attributes.iter().take(self.layout.needed).enumerate() {
            let is_short = number >= columns;
            if is_short && attribute.has_missing && attribute.place.is_some() {
                return None;
            }
            if is_short || nulls.is_some_and(|bits| bits[number / 8] & 1 << (number % 8) == 0) {
                if let Some(place) = attribute.place {
                    self.found[place] = None;
                }
                continue;
            }
            // `next_multiple_of` divides, which takes longer than all the rest of a column.
            let aligned = (at + attribute.alignment - 1) & !(attribute.alignment - 1);
            let (start, length) = match attribute.width {
                Width::Bytes(bytes) => (aligned, bytes),
                Width::Varlena => {
                    // A short header is not aligned, and its first byte is not zero as padding is.
                    let start = if *data.get(at)? == 0 { aligned } else { at };
                    (start, value::size(data.get(start..)?)?)
                }
                Width::Text => (aligned, data.get(aligned..)?.iter().position(|byte| *byte == 0)? + 1),
            };
            at = start + length;
            if at > data.len() {
                return None;
            }
            if let Some(place) = attribute.place {
                self.found[place] = Some((start as u32, at as u32));
            }
        }
        Some(())
    }
}

/// A tuple without what is not looked at.
struct Header<'a> {
    /// The values.
    data: &'a [u8],
    /// One bit for each column, 0 for NULL; none if there is no NULL.
    nulls: Option<&'a [u8]>,
    columns: usize,
}

impl<'a> Header<'a> {
    fn of(tuple: &'a [u8]) -> Option<Self> {
        let [low, high, mask_low, mask_high, start] = *tuple.get(18..HEADER)?.first_chunk()?;
        let columns = usize::from(u16::from_le_bytes([low, high]) & COLUMNS);
        let has_nulls = u16::from_le_bytes([mask_low, mask_high]) & HAS_NULLS != 0;
        let start = usize::from(start);
        let bits = if has_nulls { columns.div_ceil(8) } else { 0 };
        if start < HEADER + bits || !start.is_multiple_of(8) {
            return None;
        }
        let data = tuple.get(start..)?;
        Some(Self { data, nulls: has_nulls.then(|| &tuple[HEADER..HEADER + bits]), columns })
    }
}
