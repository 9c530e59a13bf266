//! The families, named as in transformers 5.17.0 (`modeling_*.py`).

use super::super::Activation;
use super::{Architecture, Classifier, Embeddings, Layer, MaskedLm, Positions};

const BERT_EMBEDDINGS: Embeddings = Embeddings {
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    token_types: Some("embeddings.token_type_embeddings"),
    norm: "embeddings.LayerNorm",
};

const BERT_LAYER: Layer = Layer {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

pub(super) const ROBERTA: Architecture = Architecture {
    model_type: "roberta",
    class: "Roberta",
    prefix: "roberta",
    positions: Positions::BehindPadding,
    embeddings: BERT_EMBEDDINGS,
    layers: "encoder.layer",
    layer: BERT_LAYER,
    hub_places: ["attention.output", "output"],
    drops_attention_output: true,
    masked_lm: MaskedLm {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        bias: "lm_head.bias",
        decoder: "lm_head.decoder",
    },
    classifier: Classifier {
        dense: "classifier.dense",
        pooler: false,
        drops_first: true,
        activation: Activation::Tanh,
        out: "classifier.out_proj",
    },
    settings: &[],
    absent_settings: &[],
};

pub(super) const XLM_ROBERTA: Architecture = Architecture { model_type: "xlm-roberta", class: "XLMRoberta", ..ROBERTA };

pub(super) const CAMEMBERT: Architecture = Architecture { model_type: "camembert", class: "Camembert", ..ROBERTA };

pub(super) const BERT: Architecture = Architecture {
    model_type: "bert",
    class: "Bert",
    prefix: "bert",
    positions: Positions::FromZero,
    masked_lm: MaskedLm {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        bias: "cls.predictions.bias",
        decoder: "cls.predictions.decoder",
    },
    classifier: Classifier {
        dense: "bert.pooler.dense",
        pooler: true,
        drops_first: false,
        activation: Activation::Tanh,
        out: "classifier",
    },
    ..ROBERTA
};

pub(super) const DISTILBERT: Architecture = Architecture {
    model_type: "distilbert",
    class: "DistilBert",
    prefix: "distilbert",
    positions: Positions::FromZero,
    embeddings: Embeddings { token_types: None, ..BERT_EMBEDDINGS },
    layers: "transformer.layer",
    layer: Layer {
        query: "attention.q_lin",
        key: "attention.k_lin",
        value: "attention.v_lin",
        attention_output: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        intermediate: "ffn.lin1",
        output: "ffn.lin2",
        output_norm: "output_layer_norm",
    },
    hub_places: ["attention_adapters", "output_adapters"],
    drops_attention_output: false,
    masked_lm: MaskedLm {
        dense: "vocab_transform",
        norm: "vocab_layer_norm",
        bias: "vocab_projector.bias",
        decoder: "vocab_projector",
    },
    classifier: Classifier {
        dense: "pre_classifier",
        pooler: false,
        drops_first: false,
        activation: Activation::Relu,
        out: "classifier",
    },
    settings: &[
        ("dim", "hidden_size"),
        ("n_layers", "num_hidden_layers"),
        ("n_heads", "num_attention_heads"),
        ("hidden_dim", "intermediate_size"),
        ("activation", "hidden_act"),
        ("dropout", "hidden_dropout_prob"),
        ("attention_dropout", "attention_probs_dropout_prob"),
        ("seq_classif_dropout", "classifier_dropout"),
    ],
    absent_settings: &["type_vocab_size", "layer_norm_eps", "is_decoder"],
};
