//! The rows of a page: where each exported value is, or what is sent in its place. A page is taken whole or not
//! at all.
//!
//! Transactions, row locks and links of a tuple are never looked at: on a page whose rows are visible to
//! everybody they belong to transactions that failed, or to locks.

use super::page::Page;
use super::value::{self, Wire};
use crate::failpoint;
use crate::source::decode::{HeapRows, StoredForm};

/// Size of a tuple's header without its bits for NULL.
const HEADER: usize = 23;
/// Most columns of a table.
const COLUMNS: u16 = 0x07ff;
/// Whether the tuple has bits for NULL.
const HAS_NULLS: u16 = 0x0001;

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
    /// How a COPY sends exported values, by place.
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

/// Takes the rows out of pages.
pub(super) struct Taker {
    /// Number of columns of the table.
    columns: usize,
    /// The columns up to the last exported one.
    steps: Vec<Step>,
    /// Whether values of an exported column are decoded as they are stored, by place.
    stored: Vec<bool>,
    /// Whether the mark of a page counts: always, except in tests of tests.
    looks: bool,
}

/// What is done with a column's value.
struct Step {
    width: Width,
    /// Values begin at multiples of one more than this.
    mask: usize,
    has_missing: bool,
    /// Place in the exported row.
    place: usize,
    becomes: Becomes,
}

/// What becomes of a value.
enum Becomes {
    /// It is not exported.
    Nothing,
    /// It is decoded as it is, whatever it is.
    Itself,
    /// It is decoded as it is, or made into what is.
    Stored(Wire),
    /// It becomes a field of COPY.
    Field(Wire),
}

impl Layout {
    /// `attributes` by number; `wires` by place in the exported row.
    pub(super) fn new(attributes: Vec<Attribute>, wires: Vec<Wire>) -> Self {
        let needed = attributes.iter().rposition(|a| a.place.is_some()).map_or(0, |last| last + 1);
        Self { attributes, wires, needed }
    }

    fn step(&self, attribute: &Attribute, stored: &[bool]) -> Step {
        let becomes = match attribute.place.map(|place| (&self.wires[place], stored[place])) {
            None => Becomes::Nothing,
            Some((Wire::Two | Wire::Four | Wire::Eight, true)) => Becomes::Itself,
            Some((wire, true)) => Becomes::Stored(wire.clone()),
            Some((wire, false)) => Becomes::Field(wire.clone()),
        };
        Step {
            width: attribute.width,
            mask: attribute.alignment - 1,
            has_missing: attribute.has_missing,
            place: attribute.place.unwrap_or_default(),
            becomes,
        }
    }
}

impl Taker {
    /// `forms` says by place which stored values the column's builder reads, if any.
    pub(super) fn new(layout: &Layout, forms: &[Option<StoredForm>]) -> Self {
        let looks = !failpoint::is_left_out("look", "visible");
        let suits =
            |(wire, form): (&Wire, &Option<StoredForm>)| form.is_some_and(|form| value::suits(wire, form));
        let stored: Vec<bool> = layout.wires.iter().zip(forms).map(suits).collect();
        let steps = layout.attributes.iter().take(layout.needed);
        let steps = steps.map(|attribute| layout.step(attribute, &stored)).collect();
        Self { columns: layout.attributes.len(), steps, stored, looks }
    }

    /// Whether values of an exported column are decoded as they are stored, by place. Those of others become fields of
    /// COPY.
    pub(super) fn stored(&self) -> &[bool] {
        &self.stored
    }

    /// Appends the rows of a page of `size` bytes, which may lack its hole. If the page is refused, nothing is
    /// appended.
    pub(super) fn take(&self, page: &[u8], size: usize, out: &mut HeapRows) -> Result<(), Refused> {
        let tuples = match Page::of(page, size, self.looks) {
            Page::New => return Ok(()),
            Page::Doubtful => return Err(Refused::Listed),
            Page::Tuples(tuples) if tuples.number() == 0 => return Ok(()),
            Page::Tuples(tuples) => tuples,
        };
        let (base, mark) = out.begin(page, tuples.number());
        for (start, tuple) in tuples {
            if let Err(refused) = self.row(tuple, base + start, out) {
                out.back(&mark);
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Appends the row of a tuple that begins at `start` of the rows' bytes.
    #[inline]
    fn row(&self, tuple: &[u8], start: usize, out: &mut HeapRows) -> Result<(), Refused> {
        let header = Header::of(tuple).ok_or(Refused::Listed)?;
        if header.columns > self.columns {
            return Err(Refused::Newer);
        }
        let start = start + tuple.len() - header.data.len();
        let is_whole = header.nulls.is_none() && header.columns >= self.steps.len();
        let found = if is_whole {
            self.find::<true>(&header, start, out)
        } else {
            self.find::<false>(&header, start, out)
        };
        found.ok_or(Refused::Listed)?;
        out.end_row();
        Ok(())
    }

    /// Finds the exported values of a tuple whose data begin at `start` of the rows' bytes. `WHOLE`: all columns have
    /// values.
    #[inline]
    fn find<const WHOLE: bool>(&self, header: &Header<'_>, start: usize, out: &mut HeapRows) -> Option<()> {
        let data = header.data;
        let mut end = 0usize;
        for (number, step) in self.steps.iter().enumerate() {
            if !WHOLE && header.is_null(number) {
                match step.becomes {
                    Becomes::Nothing => {}
                    _ if step.has_missing && number >= header.columns => return None,
                    _ => out.put_null(step.place),
                }
                continue;
            }
            // `next_multiple_of` divides, which takes longer than all the rest of a column.
            let aligned = (end + step.mask) & !step.mask;
            let (at, size) = match step.width {
                Width::Bytes(bytes) => (aligned, bytes),
                Width::Varlena => {
                    // A short header is not aligned, and its first byte is not zero as padding is.
                    let at = if *data.get(end)? == 0 { aligned } else { end };
                    (at, value::size(data.get(at..)?)?)
                }
                Width::Text => (aligned, data.get(aligned..)?.iter().position(|byte| *byte == 0)? + 1),
            };
            end = at + size;
            let stored = data.get(at..end)?;
            match &step.becomes {
                Becomes::Nothing => {}
                Becomes::Itself => out.put(step.place, start + at),
                Becomes::Stored(wire) => {
                    if value::is_plain(wire, stored)? {
                        out.put(step.place, start + at);
                    } else {
                        value::make(wire, stored, out.write(step.place))?;
                    }
                }
                Becomes::Field(wire) => value::put(wire, stored, out.write(step.place))?,
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

impl Header<'_> {
    /// Whether a column is NULL, or newer than the row.
    #[inline]
    fn is_null(&self, number: usize) -> bool {
        number >= self.columns || self.nulls.is_some_and(|bits| bits[number / 8] & 1 << (number % 8) == 0)
    }
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
