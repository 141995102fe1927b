//! What complex types consist of: rows become structs, and arrays of rows or of arrays become lists, as far as JSON
//! holds their values exactly.
//!
//! The catalogue names a type of a column `_ct_` and a number, and has an entry for each of its fields
//! (`v_catalog.complex_types`). What it does not tell, and maps, whose JSON no page describes, stay text. A value
//! whose JSON has other fields than the catalogue tells does not fit, so a wrong belief gives text and no wrong value.

use std::collections::{BTreeMap, HashMap};

use super::types;
use crate::source::decode::{Form, FormAttribute};

/// Deepest nesting that becomes structs and lists.
const DEEPEST: usize = 16;

/// The complex types of a database, by their names.
#[derive(Debug, Default)]
pub(super) struct ComplexTypes(HashMap<String, Complex>);

#[derive(Debug, Default)]
struct Complex {
    kind: String,
    fields: BTreeMap<i64, Field>,
}

/// A field of a row, or the element of an array.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// The type in the catalogue's words.
    pub(super) ty: String,
    /// Most digits and digits after the decimal point, of a numeric.
    pub(super) digits: Option<(u16, u16)>,
}

impl ComplexTypes {
    /// Whether the catalogue has an entry of its own for a type of this name.
    pub(super) fn is_one(name: &str) -> bool {
        name.starts_with("_ct_")
    }

    /// Adds what the catalogue tells about one field.
    pub(super) fn add(&mut self, ty: &str, kind: &str, position: i64, field: Field) {
        let complex = self.0.entry(ty.to_owned()).or_default();
        complex.kind = kind.to_lowercase();
        complex.fields.insert(position, field);
    }

    /// What the values of a type mean; none if they stay text.
    pub(super) fn form(&self, ty: &str) -> Option<Form> {
        self.nested(ty, DEEPEST).filter(Form::is_exact_in_json)
    }

    fn nested(&self, ty: &str, deepest: usize) -> Option<Form> {
        let Complex { kind, fields } = self.0.get(ty)?;
        let of = |field: &Field| match types::named(&field.ty, field.digits) {
            None if deepest > 0 => self.nested(&field.ty, deepest - 1),
            form => form,
        };
        match (kind.as_str(), fields.values().next(), fields.len()) {
            ("array", Some(element), 1) => Some(Form::ListFromJson(Box::new(of(element)?))),
            ("row", Some(_), _) => {
                let mut attributes: Vec<FormAttribute> = Vec::with_capacity(fields.len());
                for field in fields.values() {
                    // Readers find an attribute by its name.
                    let is_again = attributes.iter().any(|a| a.name.eq_ignore_ascii_case(&field.name));
                    if field.name.is_empty() || is_again {
                        return None;
                    }
                    attributes.push(FormAttribute { name: field.name.clone(), form: of(field)? });
                }
                Some(Form::StructFromJson(attributes))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(entries: &[(&str, &str, &str, &str)]) -> ComplexTypes {
        let mut types = ComplexTypes::default();
        for (position, (ty, kind, name, of)) in entries.iter().enumerate() {
            let field = Field { name: (*name).into(), ty: (*of).into(), digits: None };
            types.add(ty, kind, position as i64, field);
        }
        types
    }

    fn attribute(name: &str, form: Form) -> FormAttribute {
        FormAttribute { name: name.into(), form }
    }

    #[test]
    fn rows_are_structs_and_arrays_of_them_lists() {
        // As the manual's page "System tables for complex types" shows them.
        let types = types(&[
            ("_ct_2", "Row", "street", "varchar(80)"),
            ("_ct_2", "Row", "zip", "int"),
            ("_ct_1", "Row", "name", "varchar(80)"),
            ("_ct_1", "Row", "address", "_ct_2"),
            ("_ct_1", "Row", "n", "numeric(12,2)"),
            ("_ct_1", "Row", "tags", "array[int]"),
            ("_ct_3", "Array", "", "_ct_1"),
        ]);
        let address =
            Form::StructFromJson(vec![attribute("street", Form::Text), attribute("zip", Form::Int64)]);
        assert_eq!(types.form("_ct_2"), Some(address.clone()));
        let person = Form::StructFromJson(vec![
            attribute("name", Form::Text),
            attribute("address", address),
            attribute("n", Form::Unscaled { precision: 12, scale: 2 }),
            attribute("tags", Form::ListFromJson(Box::new(Form::Int64))),
        ]);
        assert_eq!(types.form("_ct_1"), Some(person.clone()));
        assert_eq!(types.form("_ct_3"), Some(Form::ListFromJson(Box::new(person))));
    }

    #[test]
    fn what_is_not_known_or_not_exact_stays_text() {
        let types = types(&[
            ("_ct_1", "Map", "key", "int"),
            ("_ct_1", "Map", "value", "varchar(80)"),
            ("_ct_2", "Row", "total", "float"),
            ("_ct_3", "Row", "a", "something"),
            ("_ct_4", "Row", "a", "int"),
            ("_ct_4", "Row", "A", "int"),
            ("_ct_5", "Row", "itself", "_ct_5"),
            ("_ct_6", "Array", "", "_ct_1"),
            ("_ct_7", "Array", "", "interval day to second"),
        ]);
        for ty in ["_ct_1", "_ct_2", "_ct_3", "_ct_4", "_ct_5", "_ct_6", "_ct_7", "_ct_8"] {
            assert_eq!(types.form(ty), None, "{ty}");
        }
    }
}
