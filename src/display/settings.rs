//! Settings as a table: every dial of a configuration, and what its default was where it was turned.

use std::fmt;

use anyhow::{Context, Result};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Column, Table};

/// Every field of a configuration in the order of its declaration, inner fields named `outer.inner`, those of configurations in a
/// list `list[0].inner`; lists of plain values stand in one row. Fields that differ from `default` have that beside them.
pub fn settings<T: Serialize>(title: &str, config: &T, default: Option<&T>) -> Result<Table> {
    let rows = flattened(config).with_context(|| format!("{title} cannot be listed"))?;
    let defaults = default.map(flattened).transpose()?;
    let default_of = |name: &str| match &defaults {
        Some(rows) => rows.iter().find(|(known, _)| known == name).map_or("–", |(_, value)| value.as_str()),
        None => "",
    };
    let differs = |name: &str, value: &str| defaults.is_some() && default_of(name) != value;
    let mut columns = vec![Column::text("setting"), Column::text("value")];
    if rows.iter().any(|(name, value)| differs(name, value)) {
        columns.push(Column::text("default"));
    }
    let mut table = Table::new("settings", title, columns);
    for (name, value) in &rows {
        table.push([name.as_str(), value.as_str(), if differs(name, value) { default_of(name) } else { "" }]);
    }
    Ok(table)
}

/// Names and values of all fields.
fn flattened<T: Serialize>(config: &T) -> Result<Vec<(String, String)>> {
    let node: Node = serde_json::from_str(&serde_json::to_string(config)?)?;
    let mut rows = Vec::new();
    node.flatten("", &mut rows);
    Ok(rows)
}

/// JSON that keeps the order of its fields.
enum Node {
    Fields(Vec<(String, Node)>),
    List(Vec<Node>),
    Value(String),
}

impl Node {
    fn flatten(self, prefix: &str, rows: &mut Vec<(String, String)>) {
        match self {
            Node::Fields(fields) if !fields.is_empty() => {
                for (name, node) in fields {
                    let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    node.flatten(&name, rows);
                }
            }
            Node::List(inner) if inner.iter().any(|node| matches!(node, Node::Fields(_))) => {
                for (at, node) in inner.into_iter().enumerate() {
                    node.flatten(&format!("{prefix}[{at}]"), rows);
                }
            }
            other => {
                let name = if prefix.is_empty() { "value" } else { prefix };
                rows.push((name.to_string(), other.inline()));
            }
        }
    }

    /// On one line.
    fn inline(&self) -> String {
        match self {
            Node::Value(value) => value.clone(),
            Node::List(inner) if inner.is_empty() => "–".to_string(),
            Node::List(inner) => inner.iter().map(Node::inline).collect::<Vec<_>>().join(", "),
            Node::Fields(fields) => {
                let inner: Vec<String> =
                    fields.iter().map(|(name, node)| format!("{name}: {}", node.inline())).collect();
                format!("{{{}}}", inner.join(", "))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Value(if value { "yes" } else { "no" }.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Value(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Value(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        let tiny = value != 0.0 && value.abs() < 1e-4;
        Ok(Node::Value(if tiny { format!("{value:e}") } else { value.to_string() }))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Value(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Value("–".to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut inner = Vec::new();
        while let Some(node) = sequence.next_element::<Node>()? {
            inner.push(node);
        }
        Ok(Node::List(inner))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Outer {
        zebra: f64,
        inner: Inner,
        names: Vec<&'static str>,
    }

    #[derive(Serialize)]
    struct Inner {
        on: bool,
        limit: Option<u32>,
    }

    fn outer(zebra: f64) -> Outer {
        Outer { zebra, inner: Inner { on: true, limit: None }, names: vec!["a", "b"] }
    }

    #[test]
    fn fields_keep_their_order_and_changed_ones_stand_beside_their_default() -> Result<()> {
        let table = settings("Dials", &outer(1e-6), Some(&outer(0.5)))?;
        let rows: Vec<Vec<String>> = table.texts();
        assert_eq!(rows[0], ["zebra", "1e-6", "0.5"]);
        assert_eq!(rows[1], ["inner.on", "yes", ""]);
        assert_eq!(rows[2], ["inner.limit", "–", ""]);
        assert_eq!(rows[3], ["names", "a, b", ""]);
        Ok(())
    }

    #[test]
    fn configurations_in_a_list_have_a_row_for_each_field() -> Result<()> {
        let table = settings("Dials", &vec![outer(1.0), outer(2.0)], None)?;
        let rows = table.texts();
        assert_eq!(rows.len(), 8);
        assert_eq!(rows[1], ["[0].inner.on", "yes"]);
        assert_eq!(rows[7], ["[1].names", "a, b"]);
        Ok(())
    }

    #[test]
    fn without_a_change_there_is_no_column_of_defaults() -> Result<()> {
        assert_eq!(settings("Dials", &outer(0.5), Some(&outer(0.5)))?.columns.len(), 2);
        assert_eq!(settings("Dials", &outer(0.5), None)?.columns.len(), 2);
        assert_eq!(settings("One", &7, None)?.texts(), [["value", "7"]]);
        Ok(())
    }
}
