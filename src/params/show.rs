//! Parameter vectors in notebooks and terminals: a row a part of the model, not a row a tensor.

use anyhow::Result;

use super::{Delta, Entry, Layout, Safetensors, Theta};
use crate::display::{Bundle, Cell, Column, Show, Table, thousands};

/// Parts with their tensors, in the order in which the layout meets them.
fn parts(layout: &Layout) -> Vec<(String, Vec<&Entry>)> {
    grouped(layout.entries().iter(), Entry::part_name)
}

/// Neighbours and strangers of one key together, keys in the order of their first appearance.
fn grouped<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    key: impl Fn(&Entry) -> String,
) -> Vec<(String, Vec<&'a Entry>)> {
    let mut groups: Vec<(String, Vec<&Entry>)> = Vec::new();
    for entry in entries {
        let key = key(entry);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(entry),
            None => groups.push((key, vec![entry])),
        }
    }
    groups
}

/// A row a part and one for the whole: tensors, numbers, norm, root mean square, fingerprint. The parts are named behind `prefix`.
pub(crate) fn summary(title: impl Into<String>, vectors: &[(&str, &Theta)]) -> Result<Table> {
    let columns = vec![
        Column::text("part"),
        Column::number("tensors", 0),
        Column::number("numbers", 0),
        Column::number("norm", 3),
        Column::number("root mean square", 5),
        Column::text("fingerprint"),
    ];
    let mut table = Table::new("parameters", title, columns);
    let row = |name: String, theta: &Theta| -> Result<[Cell; 6]> {
        let (count, norm) = (theta.num_parameters(), theta.norm()?);
        let fingerprint = theta.fingerprint()?;
        Ok([
            Cell::from(name),
            theta.layout().entries().len().into(),
            (count as usize).into(),
            norm.into(),
            (norm / (count.max(1) as f64).sqrt()).into(),
            fingerprint.get(..12).unwrap_or(&fingerprint).into(),
        ])
    };
    for (prefix, theta) in vectors {
        let parts = parts(theta.layout());
        for (part, entries) in parts.iter().filter(|_| parts.len() > 1) {
            let alone = theta.part(|entry| entries.contains(&entry))?;
            table.push(row(format!("{prefix}{part}"), &alone)?);
        }
        table.push(row(format!("{prefix}all"), theta)?);
    }
    Ok(table.caption("Norm: ‖·‖ over all numbers of the part. Equal fingerprints are equal numbers, to the bit."))
}

/// Whether training moves a tensor, by its name.
pub(crate) type Trained<'a> = &'a dyn Fn(&str) -> bool;

/// The tensors of a model as a tree with shapes; layers that look alike stand there once. With `trained`, ● marks what training moves.
pub(crate) fn tree(title: impl Into<String>, vectors: &[(&str, &Layout)], trained: Option<Trained>) -> Table {
    let mut columns = vec![Column::text("tensors"), Column::text("shapes"), Column::number("parameters", 0)];
    columns.extend(trained.map(|_| Column::text("trained")));
    let mut table = Table::new("tree", title, columns);
    let mark = |entries: &[&Entry]| match trained {
        Some(trained) => match entries.iter().filter(|entry| trained(&entry.name)).count() {
            0 => "○",
            some if some < entries.len() => "◐",
            _ => "●",
        },
        None => "",
    };
    let size = |entries: &[&Entry]| entries.iter().map(|entry| entry.len).sum::<i64>();
    for (name, layout) in vectors {
        let all: Vec<&Entry> = layout.entries().iter().collect();
        let count = |entries: &[&Entry]| Cell::from(thousands(size(entries)));
        table.push([Cell::from(*name), "".into(), count(&all), mark(&all).into()]);
        for (part, times, entries) in alike(parts(layout), &mark) {
            let each = if times > 1 { " each" } else { "" };
            let numbers = format!("{}{each}", thousands(size(&entries)));
            table.push([format!("· {part}"), String::new(), numbers, mark(&entries).to_string()]);
            let modules = grouped(entries.into_iter(), |entry| {
                entry.name_in_part().rsplit_once('.').map_or(String::new(), |(module, _)| module.to_string())
            });
            for (module, entries) in modules {
                let module = if module.is_empty() { part.as_str() } else { module.as_str() };
                let shapes: Vec<String> = entries.iter().map(|entry| shape_of(entry)).collect();
                let row = [format!("· · {module}"), shapes.join(", "), thousands(size(&entries))];
                table.push(row.into_iter().chain([mark(&entries).to_string()]));
            }
        }
    }
    table
}

/// Neighbouring layers of the same tensors, marked alike, as one: `layers 0–11`, 12, the tensors of the first.
fn alike<'a>(
    parts: Vec<(String, Vec<&'a Entry>)>,
    mark: &dyn Fn(&[&Entry]) -> &'static str,
) -> Vec<(String, usize, Vec<&'a Entry>)> {
    let look = |entries: &[&Entry]| -> Vec<(String, Vec<i64>, &'static str)> {
        entries.iter().map(|e| (e.name_in_part().to_string(), e.shape.clone(), mark(&[e]))).collect()
    };
    let mut merged: Vec<(String, usize, Vec<&Entry>)> = Vec::new();
    for (part, entries) in parts {
        match (part.strip_prefix("layer "), merged.last_mut()) {
            (Some(number), Some((name, times, first)))
                if name.starts_with("layer") && look(first) == look(&entries) =>
            {
                let start = name.trim_start_matches(|c: char| !c.is_ascii_digit());
                let start = start.split('–').next().unwrap_or(start).to_string();
                (*name, *times) = (format!("layers {start}–{number}"), *times + 1);
            }
            _ => merged.push((part, 1, entries)),
        }
    }
    merged
}

/// `weight 128 × 512`
fn shape_of(entry: &Entry) -> String {
    let last = entry.name.rsplit('.').next().unwrap_or(&entry.name);
    let sizes: Vec<String> = entry.shape.iter().map(|&size| thousands(size)).collect();
    format!("{last} {}", sizes.join(" × "))
}

impl Show for Theta {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(summary(format!("θ: {} numbers", thousands(self.num_parameters())), &[("", self)])?))
    }
}

impl Show for Delta {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(summary(format!("Δ: {} numbers", thousands(self.num_parameters())), &[("", self)])?))
    }
}

impl Show for Layout {
    fn show(&self) -> Result<Bundle> {
        let caption = format!(
            "Layout {}. θ of equal layouts can be added and compared; each tensor's place in the flat buffer is a multiple of 64 bytes.",
            self.fingerprint()
        );
        let title =
            format!("{} tensors in one buffer of {} numbers", self.entries().len(), thousands(self.buffer_len()));
        Ok(Bundle::new().table(tree(title, &[("all", self)], None).caption(caption)))
    }
}

impl Show for Entry {
    fn show(&self) -> Result<Bundle> {
        let decay = if self.decay { "yes" } else { "no" };
        let facts = [
            ("shape", Cell::from(shape_of(self))),
            ("numbers", (self.len as usize).into()),
            ("first number", (self.offset as usize).into()),
            ("weight decay", decay.into()),
        ];
        Ok(Bundle::new().table(Table::facts(self.name.as_str(), facts)))
    }
}

impl Show for Safetensors {
    fn show(&self) -> Result<Bundle> {
        let columns = vec![Column::text("tensor"), Column::text("shape"), Column::text("kind")];
        let mut table = Table::new("safetensors", format!("A file of {} tensors", self.tensors.len()), columns);
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by_key(|(name, _)| *name);
        for (name, tensor) in tensors {
            table.push([name.clone(), format!("{:?}", tensor.size()), format!("{:?}", tensor.kind())]);
        }
        let mut metadata: Vec<_> = self.metadata.iter().collect();
        metadata.sort();
        let facts = metadata.into_iter().map(|(name, value)| (name.as_str(), Cell::from(value.as_str())));
        let bundle = Bundle::new().table(table);
        Ok(if self.metadata.is_empty() { bundle } else { bundle.table(Table::facts("Metadata", facts)) })
    }
}

crate::displayable!(Theta, Delta, Layout, Entry, Safetensors);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Part, Slot};
    use tch::Tensor;

    fn layout() -> Result<Layout> {
        let slot = |name: String, shape: &[i64], part| Slot { part, ..Slot::from((name, shape.to_vec())) };
        let layer = |n: usize| {
            let tensor = move |rest: &str, shape: &[i64]| {
                slot(format!("model.encoder.layer.{n}.output.dense.{rest}"), shape, Part::Layer(n))
            };
            [tensor("weight", &[2, 3]), tensor("bias", &[2])]
        };
        let words = slot("model.embeddings.word_embeddings.weight".to_string(), &[10, 3], Part::Embeddings);
        let head = slot("classifier.weight".to_string(), &[4, 2], Part::Other);
        Layout::new([words].into_iter().chain((0..3).flat_map(layer)).chain([head]))
    }

    #[test]
    fn a_tree_names_modules_once_and_marks_what_is_trained() -> Result<()> {
        let layout = layout()?;
        let text = tree("Model", &[("backbone", &layout)], Some(&|name| name.ends_with("bias"))).to_text();
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for wanted in [
            "backbone 62 ◐",
            "· embeddings 30 ○",
            "· · word_embeddings weight 10 × 3 30 ○",
            "· layers 0–2 8 each ◐",
            "· · output.dense weight 2 × 3, bias 2 8 ◐",
            "· · classifier weight 4 × 2 8 ○",
        ] {
            assert!(rows.iter().any(|row| row == wanted), "{wanted:?} is not in\n{text}");
        }
        assert_eq!(rows.iter().filter(|row| row.contains("output.dense")).count(), 1, "{text}");
        Ok(())
    }

    #[test]
    fn layers_that_differ_stand_apart() -> Result<()> {
        let layout = layout()?;
        let trained = |name: &str| name.contains("layer.2.");
        let text = tree("Model", &[("backbone", &layout)], Some(&trained)).to_text();
        assert!(text.contains("· layers 0–1") && text.contains("· layer 2"), "{text}");
        Ok(())
    }

    #[test]
    fn a_summary_tells_changed_parts_from_equal_ones() -> Result<()> {
        let theta = |word: f32| {
            Theta::from_named([
                ("words.weight".to_string(), Tensor::from_slice(&[word, 4.0])),
                ("head.weight".to_string(), Tensor::from_slice(&[1.0_f32, 2.0, 2.0])),
            ])
        };
        let (a, b) = (summary("a", &[("", &theta(3.0)?)])?, summary("b", &[("", &theta(0.0)?)])?);
        assert_eq!(a.rows[0][..4], [Cell::from("words"), 1_usize.into(), 2_usize.into(), 5.0.into()]);
        assert_eq!(a.rows[1][3..5], [Cell::from(3.0), (3.0 / 3.0_f64.sqrt()).into()]);
        assert_eq!((a.rows[2][0].clone(), a.rows[2][2].clone()), ("all".into(), 5_usize.into()));
        assert_ne!(a.rows[0][5], b.rows[0][5]);
        assert_eq!(a.rows[1][5], b.rows[1][5]);
        Ok(())
    }
}
