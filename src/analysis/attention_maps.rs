//! What every head looks at in one sentence, to be read or drawn (the presentation of the paper, section 7).

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::display::{Cell, Column, Table};
use crate::model::Model;
use crate::text::{TokenBatch, Tokenizer};

/// The attention of every head on one text of t tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionMaps {
    /// The tokens, as the vocabulary spells them, `<s>` and `</s>` included (t).
    pub tokens: Vec<String>,
    /// Whether the text was longer than the model's positions and was cut off.
    pub truncated: bool,
    /// \[layer\]\[head\]\[query\]\[key\]; every row adds up to 1.
    pub maps: Vec<Vec<Vec<Vec<f32>>>>,
}

/// The attention of every head of `model` on `text`, in evaluation mode.
///
/// Errors: a tokenizer of another model, attention that is not finite.
pub fn attention_maps(model: &Model, tokenizer: &Tokenizer, text: &str) -> Result<AttentionMaps> {
    let config = model.config();
    ensure!(
        tokenizer.vocab_size() as i64 <= config.vocab_size && tokenizer.pad_id() == config.pad_token_id,
        "the tokenizer has {} tokens and pads with {}, the model {} and {}: use the tokenizer of this model",
        tokenizer.vocab_size(),
        tokenizer.pad_id(),
        config.vocab_size,
        config.pad_token_id
    );
    let encoding = tokenizer.encode(text, None, config.max_length() as usize)?;
    let spell = |&id: &i64| tokenizer.token(id).with_context(|| format!("the vocabulary has no token {id}"));
    let tokens = encoding.ids.iter().map(spell).collect::<Result<Vec<_>>>()?;
    let batch = TokenBatch::new(&[&encoding.ids], tokenizer.pad_id())?.to_device(model.device())?;
    let attentions = tch::no_grad(|| model.attentions(&batch))?.1; // each (1, n, t, t)
    let heads_of = |(layer, attention): (usize, &Tensor)| -> Result<Vec<Vec<Vec<f32>>>> {
        let attention = attention.f_squeeze_dim(0)?.f_to_device(Device::Cpu)?.f_contiguous()?; // (n, t, t)
        ensure!(
            bool::try_from(attention.f_isfinite()?.f_all()?)?,
            "the attention of layer {layer} is not finite: the model's parameters are damaged or overflow"
        );
        Ok(Vec::try_from(attention)?)
    };
    let maps = attentions.iter().enumerate().map(heads_of).collect::<Result<_>>()?;
    Ok(AttentionMaps { tokens, truncated: encoding.truncated, maps })
}

impl AttentionMaps {
    /// One head's map, \[query\]\[key\]. Errors when there is no such head.
    pub fn map(&self, layer: usize, head: usize) -> Result<&[Vec<f32>]> {
        let heads = self.maps.get(layer).with_context(|| {
            format!("there is no layer {layer}: the model has the layers 0 to {}", self.maps.len().saturating_sub(1))
        })?;
        let map = heads.get(head).with_context(|| {
            format!("there is no head {head}: a layer has the heads 0 to {}", heads.len().saturating_sub(1))
        })?;
        Ok(map)
    }

    /// One head's map: a row for every query token, a column for every key token. Errors when there is no such head.
    pub fn table(&self, layer: usize, head: usize) -> Result<Table> {
        let mut columns = vec![Column::text("query \\ key")];
        columns.extend(self.tokens.iter().map(|token| Column::number(token.as_str(), 2)));
        let (id, title) = (format!("attention.{layer}.{head}"), format!("Attention of layer {layer}, head {head}"));
        let mut table = Table::new(id, title, columns);
        if self.truncated {
            table = table.caption("The text was cut off at the model's last position.");
        }
        for (token, weights) in self.tokens.iter().zip(self.map(layer, head)?) {
            let weights = weights.iter().map(|&weight| Cell::from(f64::from(weight)));
            table.push([Cell::from(token.as_str())].into_iter().chain(weights));
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::inputs::testing;

    #[test]
    fn a_map_names_its_tokens_and_its_rows_are_distributions() -> Result<()> {
        let model = testing::model(&testing::config(), 1)?;
        let maps = attention_maps(&model, &testing::tokenizer()?, "w3 w1 w11")?;
        assert_eq!(maps.tokens, ["<s>", "w3", "w1", "w11", "</s>"]);
        assert_eq!((maps.truncated, maps.maps.len(), maps.maps[0].len()), (false, 2, 4));
        for layer in 0..2 {
            for head in 0..4 {
                let map = maps.map(layer, head)?;
                assert!(map.len() == 5 && map.iter().all(|row| row.len() == 5));
                assert!(map.iter().all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
            }
        }
        assert_ne!(maps.map(0, 0)?, maps.map(0, 1)?);
        let batch = TokenBatch::new(&[vec![0, 8, 6, 16, 2]], 1)?;
        let expected = model.attentions(&batch)?.1[1].double_value(&[0, 3, 2, 4]);
        assert!((f64::from(maps.map(1, 3)?[2][4]) - expected).abs() < 1e-7);
        Ok(())
    }

    #[test]
    fn a_map_prints_serialises_and_says_what_it_does_not_have() -> Result<()> {
        let model = testing::model(&testing::config(), 1)?;
        let maps = attention_maps(&model, &testing::tokenizer()?, "w1 w2")?;
        assert!(maps.table(1, 2)?.to_text().contains("query \\ key"));
        assert_eq!(serde_json::from_str::<AttentionMaps>(&serde_json::to_string(&maps)?)?, maps);
        assert!(maps.map(2, 0).unwrap_err().to_string().contains("layers 0 to 1"));
        assert!(maps.table(0, 4).unwrap_err().to_string().contains("heads 0 to 3"));
        let long = attention_maps(&model, &testing::tokenizer()?, &["w1"; 40].join(" "))?;
        assert_eq!((long.truncated, long.tokens.len()), (true, 12));
        assert!(long.table(0, 0)?.caption.contains("cut off"));
        Ok(())
    }

    #[test]
    fn a_foreign_tokenizer_is_refused() -> Result<()> {
        let words: Vec<String> = (0..40).map(|word| format!("w{word}")).collect();
        let model = testing::model(&testing::config(), 1)?;
        let error = attention_maps(&model, &Tokenizer::word_level(&words)?, "w1").unwrap_err().to_string();
        assert!(error.contains("45 tokens") && error.contains("the tokenizer of this model"), "{error}");
        Ok(())
    }
}
