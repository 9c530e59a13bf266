//! The encoder, top to bottom in the order of computation: embeddings, attention, feed-forward, encoder.
//!
//! Arithmetic is that of `BertModel`, `RobertaModel` and `DistilBertModel` in transformers (modeling_bert.py and the like), without
//! poolers; what they call their tensors, and how they count positions, stands in [`super::architecture`].
//! Shapes: b sequences, t positions, h hidden size, n heads of size d = h / n, r rows that the last layer is asked for.

use anyhow::{Context, Result, anyhow, ensure};
use tch::{Kind, Tensor};

use super::absorbed;
use super::activation::gelu;
use super::adapter::Adapter;
use super::architecture::{Positions, adapter_places};
use super::leaves::{Leaves, Weight};
use super::lora::Lora;
use super::maps::{LayerNorm, Linear};
use super::pass::{Pass, Rows, linear};
use super::{EncoderConfig, Method};
use crate::text::TokenBatch;

/// What stands behind attention and behind the feed-forward map: LayerNorm(residual + dropout(W·x + b)).
#[derive(Debug)]
struct SublayerOutput {
    dense: Linear,
    norm: LayerNorm,
    dropout: f64,
    adapter: Option<Adapter>,
}

impl SublayerOutput {
    fn forward(&self, x: &Tensor, residual: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = self.dense.forward(x, pass)?;
        match &self.adapter {
            None => self.norm.of_sum(&y, residual, self.dropout, pass),
            Some(adapter) if adapter.is_inside() => {
                self.norm.of_sum(&adapter.forward(&y, &y, pass)?, residual, self.dropout, pass)
            }
            Some(adapter) if adapter.is_behind() => {
                let y = self.norm.of_sum(&y, residual, self.dropout, pass)?;
                adapter.forward(&y, &y, pass)
            }
            Some(adapter) => adapter.finish(&pass.dropout(&y, self.dropout)?, residual, &self.norm, pass),
        }
    }
}

#[derive(Debug)]
struct Embeddings {
    word: Weight,
    position: Tensor,
    token_type: Option<Tensor>,
    /// Whether there is more than one type to tell apart.
    reads_types: bool,
    norm: LayerNorm,
    dropout: f64,
    positions: Positions,
    pad_token_id: i64,
}

impl Embeddings {
    fn forward(&self, tokens: &TokenBatch, pass: &Pass) -> Result<Tensor> {
        let input_ids = &tokens.input_ids;
        let words = Tensor::f_embedding(&self.word.exact, input_ids, self.pad_token_id, false, false)
            .context("a token id lies outside the model's vocabulary: is this the tokenizer of this model?")?;
        let positions = match self.positions {
            Positions::FromZero => self.position.f_narrow(0, 0, input_ids.size2()?.1)?.f_unsqueeze(0)?, // (1, t, h)
            Positions::BehindPadding => {
                let filled = input_ids.f_ne(self.pad_token_id)?; // (b, t)
                let positions = (filled.f_cumsum(1, Kind::Int64)? * &filled).f_add_scalar(self.pad_token_id)?; // (b, t)
                Tensor::f_embedding(&self.position, &positions, self.pad_token_id, false, false)?
            }
        };
        let types = match (&self.token_type, tokens.token_types.as_ref().filter(|_| self.reads_types)) {
            (None, _) => None,
            (Some(table), None) => Some(table.f_select(0, 0)?), // (h)
            (Some(table), Some(types)) => {
                let types = Tensor::f_embedding(table, types, -1, false, false);
                Some(types.context("a token type lies outside the model's: is this the tokenizer of this model?")?)
            }
        };
        let sum = match types {
            Some(types) => words.f_add(&types)?.f_add(&positions)?, // (b, t, h)
            None => words.f_add(&positions)?,
        };
        pass.dropout(&self.norm.forward(&sum)?, self.dropout)
    }
}

/// Up to this many tokens, training in bfloat16 on a CPU keeps attention's weights, n·t² numbers in both kinds: at most 0.4 MB a
/// layer and sequence of four heads.
const EXPLICIT_LENGTH: i64 = 128;

#[derive(Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: i64,
    dropout: f64,
}

impl SelfAttention {
    /// What `<s>` attends to, (b, 1, h): its query is `first` (b, 1, h). The keys and values are not computed where that is
    /// possible and exact.
    fn first(
        &self,
        first: &Tensor,
        x: &Tensor,
        mask: Option<&Tensor>,
        pass: &Pass,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let absorbable = self.key.is_plain() && self.value.is_plain();
        if !absorbable || pass.attentions || (pass.kind != Kind::Float && x.device().is_cuda()) {
            return self.forward(Some(first), x, mask, pass);
        }
        let q = self.query.forward(&first.f_squeeze_dim(1)?, pass)?.f_to_kind(Kind::Float)?; // (b, h)
        let maps = absorbed::Maps {
            key: &self.key.weight.exact,
            value: &self.value.weight.exact,
            value_bias: &self.value.bias.exact,
        };
        let dropout = |weights: &Tensor| pass.dropout(weights, self.dropout);
        Ok((absorbed::attend(&q, x, maps, self.heads, mask, dropout)?, None))
    }

    /// Returns the mixed values (b, q, h) and, when asked for, the weights (b, n, q, t). The queries come from those given, or from
    /// x itself.
    fn forward(
        &self,
        queries: Option<&Tensor>,
        x: &Tensor,
        mask: Option<&Tensor>,
        pass: &Pass,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (b, q_len, h) = queries.unwrap_or(x).size3()?;
        let on_gpu = x.device().is_cuda();
        let dropout = if pass.drops(self.dropout) { self.dropout } else { 0.0 };
        let training = pass.dropout.is_some();
        // libtorch's flash kernel does not take dropout on the CPU, and its own dropout draws from the process's generator, which
        // only a pass on a GPU seeds. In training where a CPU multiplies bfloat16, two whole products beat that kernel on short
        // sequences, most of all backward: it makes small ones for every head of every sequence, and is at its best in fp32.
        let short = x.size()[1] <= EXPLICIT_LENGTH;
        let explicit =
            pass.attentions || (training && !on_gpu && (dropout > 0.0 || (pass.kind != Kind::Float && short)));
        let kind = if explicit || on_gpu { pass.kind } else { Kind::Float };
        let (q, k, v) = self.project(queries, x, kind, pass)?;
        let (mixed, weights) = if explicit {
            let (mixed, weights) =
                explicit_attention(&q, &k, &v, mask, |weights| pass.dropout_to(weights, self.dropout, kind))?;
            (mixed, pass.attentions.then_some(weights))
        } else {
            (Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, dropout, false, None, false)?, None)
        };
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([b, q_len, h])?; // (b, q, h)
        Ok((mixed, weights))
    }

    /// Queries (b, n, q, d), keys and values (b, n, t, d), of this kind.
    fn project(
        &self,
        queries: Option<&Tensor>,
        x: &Tensor,
        kind: Kind,
        pass: &Pass,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (b, t, h) = x.size3()?;
        let d = h / self.heads;
        let maps = [&self.query, &self.key, &self.value];
        if queries.is_none() && maps.iter().all(|map| map.is_plain()) {
            // One product in place of three, and one gradient of x in place of a sum of three.
            let (weights, biases) = (maps.map(|map| &map.weight), maps.map(|map| &map.bias));
            let y = linear(x, &weights, &biases, pass)?.f_to_kind(kind)?; // (b, t, 3h)
            let parts = y.f_chunk(3, -1)?.into_iter();
            let parts = parts.map(|part| part.f_view([b, t, self.heads, d])?.f_transpose(1, 2)); // (b, n, t, d)
            let [q, k, v] = <[Tensor; 3]>::try_from(parts.collect::<Result<Vec<_>, _>>()?)
                .map_err(|_| anyhow!("three maps give three parts"))?;
            return Ok((q, k, v));
        }
        let project = |map: &Linear, x: &Tensor| -> Result<Tensor> {
            let y = map.forward(x, pass)?.f_to_kind(kind)?; // (b, …, h)
            Ok(y.f_view([b, -1, self.heads, d])?.f_transpose(1, 2)?)
        };
        Ok((project(&self.query, queries.unwrap_or(x))?, project(&self.key, x)?, project(&self.value, x)?))
    }
}

/// softmax(q·kᵀ/√d)·v with its weights (b, n, q, t), as given by the formula. Dropout has to give them v's kind.
fn explicit_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    dropout: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<(Tensor, Tensor)> {
    let ((b, n, q_len, d), t) = (q.size4()?, k.size()[2]);
    let by_head = |x: &Tensor| x.f_reshape([b * n, -1, d]); // (b·n, …, d)
    let zero = Tensor::f_zeros([1, 1, 1], (q.kind(), q.device()))?;
    let bias = match mask {
        Some(mask) => {
            let bias = zero.f_where_self(mask, &Tensor::f_full([], f64::NEG_INFINITY, (q.kind(), q.device()))?)?; // (b, 1, 1, t)
            bias.f_expand([b, n, 1, t], false)?.f_reshape([b * n, 1, t])?
        }
        None => zero,
    };
    let scores = bias.f_baddbmm(&by_head(q)?, &by_head(k)?.f_transpose(1, 2)?, 1.0, 1.0 / (d as f64).sqrt())?; // (b·n, q, t)
    let weights = scores.f_softmax(-1, Kind::Float)?;
    let mixed = dropout(&weights)?.f_bmm(&by_head(v)?)?; // (b·n, q, d)
    Ok((mixed.f_view([b, n, q_len, d])?, weights.f_view([b, n, q_len, t])?))
}

#[derive(Debug)]
struct Layer {
    attention: SelfAttention,
    attention_output: SublayerOutput,
    intermediate: Linear,
    output: SublayerOutput,
}

impl Layer {
    fn forward(&self, x: &Tensor, mask: Option<&Tensor>, rows: &Rows, pass: &Pass) -> Result<(Tensor, Option<Tensor>)> {
        let (_, _, h) = x.size3()?;
        let (mixed, residual, weights) = match rows {
            Rows::First => {
                let first = x.f_narrow(1, 0, 1)?; // (b, 1, h)
                let (mixed, weights) = self.attention.first(&first, x, mask, pass)?;
                (mixed, first, weights)
            }
            Rows::All => {
                let (mixed, weights) = self.attention.forward(None, x, mask, pass)?;
                (mixed, x.shallow_clone(), weights)
            }
            Rows::At(rows) => {
                let (mixed, weights) = self.attention.forward(None, x, mask, pass)?;
                let pick = |y: &Tensor| y.f_reshape([-1, h])?.f_index_select(0, rows)?.f_unsqueeze(0); // (1, r, h)
                (pick(&mixed)?, pick(x)?, weights)
            }
        };
        let attended = self.attention_output.forward(&mixed, &residual, pass)?;
        let inner = gelu(&self.intermediate.forward(&attended, pass)?)?; // (…, intermediate)
        Ok((self.output.forward(&inner, &attended, pass)?, weights))
    }
}

/// What a forward pass gives.
pub(crate) struct Encoded {
    /// The last hidden state of the rows asked for.
    pub last: Tensor,
    /// The embeddings' output, then each layer's: each (b, t, h), but for the last one, which holds the rows asked for.
    pub hidden_states: Vec<Tensor>,
    /// Each layer's attention weights (b, n, q, t).
    pub attentions: Vec<Tensor>,
}

/// The encoder with its embeddings and whatever modules sit inside.
#[derive(Debug)]
pub(crate) struct Encoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    max_length: i64,
}

impl Encoder {
    /// Wires the leaves of a backbone, and of the modules of `method`, into a network.
    pub fn new(
        config: &EncoderConfig,
        backbone: &Leaves,
        method: &Method,
        modules: Option<&Leaves>,
    ) -> Result<Encoder> {
        let (family, dropout) = (config.architecture(), config.hidden_dropout_prob);
        let linear = |at: &str, name: &str| -> Result<Linear> {
            let name = format!("{at}.{name}");
            let mut linear = Linear::new(backbone, &name)?;
            if let (Method::Lora(lora), Some(leaves)) = (method, modules) {
                linear = linear.with_update(Lora::new(leaves, &name, lora)?);
            }
            Ok(linear)
        };
        let norm = |name: String| LayerNorm::new(backbone, &name, config.layer_norm_eps);
        let adapter = |at: &str, which: usize| -> Result<Option<Adapter>> {
            let (Method::Adapter(adapter), Some(leaves)) = (method, modules) else { return Ok(None) };
            Adapter::new(leaves, &format!("{at}.{}", adapter_places(config, adapter.position)[which]), adapter)
        };
        let layer = |index: usize| -> Result<Layer> {
            let (at, names) = (family.layer_prefix(index), &family.layer);
            Ok(Layer {
                attention: SelfAttention {
                    query: linear(&at, names.query)?,
                    key: linear(&at, names.key)?,
                    value: linear(&at, names.value)?,
                    heads: config.num_attention_heads,
                    dropout: config.attention_probs_dropout_prob,
                },
                attention_output: SublayerOutput {
                    dense: linear(&at, names.attention_output)?,
                    norm: norm(format!("{at}.{}", names.attention_norm))?,
                    dropout: if family.drops_attention_output { dropout } else { 0.0 },
                    adapter: adapter(&at, 0)?,
                },
                intermediate: linear(&at, names.intermediate)?,
                output: SublayerOutput {
                    dense: linear(&at, names.output)?,
                    norm: norm(format!("{at}.{}", names.output_norm))?,
                    dropout,
                    adapter: adapter(&at, 1)?,
                },
            })
        };
        let names = &family.embeddings;
        let table = |name: &str| format!("{}.weight", family.embedding(name));
        Ok(Encoder {
            embeddings: Embeddings {
                word: backbone.weight(&table(names.words))?,
                position: backbone.get(&table(names.positions))?,
                token_type: names.token_types.map(|name| backbone.get(&table(name))).transpose()?,
                reads_types: config.type_vocab_size > 1,
                norm: norm(family.embedding(names.norm))?,
                dropout,
                positions: family.positions,
                pad_token_id: config.pad_token_id,
            },
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            max_length: config.max_length(),
        })
    }

    /// Runs the encoder on a batch (b, t).
    pub fn forward(&self, tokens: &TokenBatch, pass: &Pass) -> Result<Encoded> {
        let (_, t) = tokens.input_ids.size2().context("input ids must be (batch, length)")?;
        ensure!(
            t <= self.max_length,
            "a sequence of {t} tokens is longer than the model's {} positions: truncate it",
            self.max_length
        );
        let mask = tokens.attention_mask.as_ref();
        let mask = mask.map(|mask| mask.f_to_kind(Kind::Bool)?.f_unsqueeze(1)?.f_unsqueeze(1)).transpose()?; // (b, 1, 1, t)
        let mut x = self.embeddings.forward(tokens, pass)?; // (b, t, h)
        let (mut hidden_states, mut attentions) = (Vec::new(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            let rows = if index + 1 == self.layers.len() { &pass.rows } else { &Rows::All };
            let (y, weights) = layer.forward(&x, mask.as_ref(), rows, pass)?;
            let below = std::mem::replace(&mut x, y);
            if pass.hidden_states {
                hidden_states.push(below);
            }
            attentions.extend(weights);
        }
        if pass.hidden_states {
            hidden_states.push(x.shallow_clone());
        }
        Ok(Encoded { last: x, hidden_states, attentions })
    }

    /// The word embeddings, to which the masked-LM decoder is tied.
    pub fn word_embeddings(&self) -> &Weight {
        &self.embeddings.word
    }
}
