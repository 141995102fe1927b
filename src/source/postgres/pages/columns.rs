//! Which columns are taken from pages, and how: one table of types. A type that is not in it is read by COPY.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::reading::{Fetch, Reading};
use super::super::types::oid;
use super::tuple::{Attribute, Layout, Width};
use super::value::Wire;
use crate::source::decode::Form;

/// What the catalogue says about a column, as the snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogueColumn {
    /// `attname`.
    pub(super) name: String,
    /// `attlen`.
    pub(super) length: i16,
    /// `attalign`.
    pub(super) alignment: char,
    /// `atthasmissing`.
    pub(super) has_missing: bool,
    /// Oid of the type; of the base type, if it is a domain. 0 for a dropped column.
    pub(super) ty: u32,
    /// The labels, if the type is an enum.
    pub(super) labels: Option<BTreeMap<u32, String>>,
}

/// How a value of a type is sent; `None` if the type is not taken apart.
pub(super) fn wire(ty: u32, labels: Option<&BTreeMap<u32, String>>) -> Option<Wire> {
    Some(match ty {
        oid::BOOL => Wire::Bool,
        oid::INT2 => Wire::Two,
        oid::INT4 | oid::OID | oid::FLOAT4 | oid::DATE => Wire::Four,
        oid::INT8 | oid::FLOAT8 | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ => Wire::Eight,
        oid::NUMERIC => Wire::Numeric,
        oid::INTERVAL => Wire::Interval,
        oid::UUID => Wire::Uuid,
        oid::NAME => Wire::Name,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::BYTEA | oid::JSON => Wire::Bytes,
        _ => Wire::Label(Arc::new(labels?.clone())),
    })
}

/// What the bytes of a value mean that is sent in binary form, although COPY may send it as text. `None` if only
/// the server can make what the plan asks for.
pub(super) fn form(reading: &Reading, ty: u32) -> Option<Form> {
    let is_text = matches!(ty, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON);
    match (reading.fetch, &reading.form, ty) {
        (Fetch::Native, form, _) => Some(form.clone()),
        (Fetch::AsText, Form::Text, oid::NUMERIC) => Some(Form::NumericText),
        (Fetch::AsText, Form::DoubleFromText, oid::NUMERIC) => Some(Form::NumericDouble),
        (Fetch::AsText, Form::Text, _) | (Fetch::AsBytes, Form::Bytes, _) if is_text => {
            Some(reading.form.clone())
        }
        _ => None,
    }
}

/// The layout of a table whose columns have these facts, by number. `exported` are names. The error names what is
/// not taken apart.
pub(super) fn layout(columns: &[CatalogueColumn], exported: &[&str]) -> Result<Layout, String> {
    let strange = |column: &CatalogueColumn| format!("column {} is stored in an unknown way", column.name);
    let mut wires = vec![None; exported.len()];
    let mut attributes = Vec::with_capacity(columns.len());
    for column in columns {
        let place = exported.iter().position(|name| column.ty != 0 && *name == column.name);
        if let Some(place) = place {
            let wire = wire(column.ty, column.labels.as_ref());
            wires[place] = Some(wire.ok_or_else(|| not_taken(&column.name))?);
        }
        let width = match column.length {
            -1 => Width::Varlena,
            -2 => Width::Text,
            bytes => Width::Bytes(usize::try_from(bytes).map_err(|_| strange(column))?),
        };
        let alignment = match column.alignment {
            'c' => 1,
            's' => 2,
            'i' => 4,
            'd' => 8,
            _ => return Err(strange(column)),
        };
        if let Some(Some(wire)) = place.map(|place| &wires[place])
            && !fits(wire, width)
        {
            return Err(strange(column));
        }
        attributes.push(Attribute { width, alignment, has_missing: column.has_missing, place });
    }
    let named = wires.into_iter().zip(exported);
    let wires: Result<Vec<Wire>, String> =
        named.map(|(wire, name)| wire.ok_or_else(|| format!("column {name} is not there"))).collect();
    Ok(Layout::new(attributes, wires?))
}

/// Why a column is read by COPY.
pub(super) fn not_taken(name: &str) -> String {
    format!("column {name} has a type that is not taken from pages")
}

/// Whether values of this width can be sent so.
fn fits(wire: &Wire, width: Width) -> bool {
    let bytes = match wire {
        Wire::Bool => 1,
        Wire::Two => 2,
        Wire::Four | Wire::Label(_) => 4,
        Wire::Eight => 8,
        Wire::Interval | Wire::Uuid => 16,
        Wire::Name => 64,
        Wire::Bytes | Wire::Numeric => return width == Width::Varlena,
    };
    width == Width::Bytes(bytes)
}
