//! What a score has to beat: the majority class, and a bag-of-words classifier that knows no pre-training.
//!
//! The bag-of-words classifier is multinomial logistic regression on TF-IDF with scikit-learn's definitions and defaults
//! (`TfidfVectorizer()` followed by `LogisticRegression()`). It is our own because the crates at hand fit dense matrices or
//! pull in a linear-algebra stack, and sparse rows with L-BFGS take a page.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result, ensure};
use regex::Regex;

/// What a baseline says about a test set.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Share of test texts that are right.
    pub accuracy: f64,
    /// One class number a test example.
    pub predictions: Vec<usize>,
}

impl Baseline {
    fn new(predictions: Vec<usize>, test: &[(String, usize)]) -> Self {
        let correct = predictions.iter().zip(test).filter(|(predicted, (_, label))| *predicted == label).count();
        Self { accuracy: correct as f64 / test.len() as f64, predictions }
    }
}

fn check(train: &[(String, usize)], test: &[(String, usize)], classes: usize) -> Result<()> {
    ensure!(!train.is_empty(), "a baseline needs training examples, got none");
    ensure!(!test.is_empty(), "a baseline needs test examples, got none");
    if let Some((text, label)) = train.iter().chain(test).find(|(_, label)| *label >= classes) {
        anyhow::bail!("label {label} of \"{text}\" is out of range: there are {classes} classes, numbered from 0");
    }
    Ok(())
}

/// Always answers the training set's most frequent class (the lowest number among equals).
pub fn majority(train: &[(String, usize)], test: &[(String, usize)], classes: usize) -> Result<Baseline> {
    check(train, test, classes)?;
    let mut counts = vec![0usize; classes];
    train.iter().for_each(|(_, label)| counts[*label] += 1);
    let top = counts.iter().copied().max().unwrap_or(0);
    let winner = counts.iter().position(|count| *count == top).unwrap_or(0);
    Ok(Baseline::new(vec![winner; test.len()], test))
}

/// TF-IDF and logistic regression with scikit-learn's defaults: lower-cased words of two or more letters or digits, smooth idf, L2-normed
/// rows, L2 penalty with C = 1, an unpenalised intercept. Classes without a training example are never predicted.
///
/// Deterministic: there is no random choice in it. Errors: no examples, or a label outside 0..`classes`.
pub fn bag_of_words(train: &[(String, usize)], test: &[(String, usize)], classes: usize) -> Result<Baseline> {
    check(train, test, classes)?;
    let seen: Vec<usize> = train.iter().map(|(_, label)| *label).collect::<BTreeSet<_>>().into_iter().collect();
    let documents =
        |examples: &[(String, usize)]| examples.iter().map(|(text, _)| words(text)).collect::<Result<Vec<_>>>();
    let (train_words, test_words) = (documents(train)?, documents(test)?);
    let tfidf = TfIdf::fit(&train_words);
    let rows: Vec<Row> = train_words.iter().map(|document| tfidf.row(document)).collect();
    let labels: Vec<usize> = train.iter().map(|(_, label)| seen.partition_point(|class| class < label)).collect();
    let model = LogisticRegression::fit(&rows, &labels, seen.len(), tfidf.idf.len());
    let predict = |document: &Vec<String>| seen[argmax(&model.probabilities(&tfidf.row(document)))];
    Ok(Baseline::new(test_words.iter().map(predict).collect(), test))
}

/// Words as scikit-learn's default pattern `\b\w\w+\b` finds them in lower-cased text.
fn words(text: &str) -> Result<Vec<String>> {
    static PATTERN: std::sync::OnceLock<Option<Regex>> = std::sync::OnceLock::new();
    let pattern = PATTERN.get_or_init(|| Regex::new(r"\b\w\w+\b").ok());
    let pattern =
        pattern.as_ref().context("the word pattern does not compile: this regex crate lacks Unicode support")?;
    Ok(pattern.find_iter(&text.to_lowercase()).map(|word| word.as_str().to_owned()).collect())
}

/// Sparse: (feature, value), features ascending.
type Row = Vec<(usize, f64)>;

struct TfIdf {
    vocabulary: BTreeMap<String, usize>,
    idf: Vec<f64>,
}

impl TfIdf {
    /// idf(w) = ln((1 + n) / (1 + documents with w)) + 1.
    fn fit(documents: &[Vec<String>]) -> Self {
        let mut frequencies: BTreeMap<String, usize> = BTreeMap::new();
        for document in documents {
            for word in document.iter().collect::<BTreeSet<_>>() {
                *frequencies.entry(word.clone()).or_default() += 1;
            }
        }
        let n = documents.len() as f64;
        let idf = frequencies.values().map(|&count| ((1.0 + n) / (1.0 + count as f64)).ln() + 1.0).collect();
        let vocabulary = frequencies.into_keys().enumerate().map(|(at, word)| (word, at)).collect();
        Self { vocabulary, idf }
    }

    /// Counts × idf, scaled to length 1. A document without known words is a row of zeros.
    fn row(&self, document: &[String]) -> Row {
        let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
        for feature in document.iter().filter_map(|word| self.vocabulary.get(word)) {
            *counts.entry(*feature).or_default() += 1.0;
        }
        let weighted: Row = counts.into_iter().map(|(feature, count)| (feature, count * self.idf[feature])).collect();
        let norm = weighted.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
        weighted.into_iter().map(|(feature, value)| (feature, value / norm)).collect()
    }
}

fn argmax(values: &[f64]) -> usize {
    (0..values.len()).reduce(|best, at| if values[at] > values[best] { at } else { best }).unwrap_or(0)
}

/// Weights (outputs, features + 1), the last column the intercept; one output where there are two classes, as in scikit-learn.
struct LogisticRegression {
    weights: Vec<f64>,
    outputs: usize,
    classes: usize,
}

impl LogisticRegression {
    /// Minimises Σ −ln p(label) + ‖w‖² / 2, the intercepts unpenalised.
    fn fit(rows: &[Row], labels: &[usize], classes: usize, features: usize) -> Self {
        let outputs = if classes > 2 { classes } else { classes - 1 };
        let stride = features + 1;
        let mut model = Self { weights: vec![0.0; outputs * stride], outputs, classes };
        let objective = |weights: &[f64], gradient: &mut [f64]| {
            let mut loss = 0.0;
            gradient.copy_from_slice(weights);
            for output in 0..outputs {
                let intercept = output * stride + features;
                gradient[intercept] = 0.0;
                loss += weights[intercept - features..intercept].iter().map(|w| w * w).sum::<f64>() / 2.0;
            }
            for (row, &label) in rows.iter().zip(labels) {
                let log_p = log_probabilities(weights, outputs, classes, row);
                loss -= log_p[label];
                for output in 0..outputs {
                    let class = output + classes - outputs;
                    let slope = log_p[class].exp() - if class == label { 1.0 } else { 0.0 };
                    row.iter().for_each(|(feature, value)| gradient[output * stride + feature] += slope * value);
                    gradient[output * stride + features] += slope;
                }
            }
            loss
        };
        minimise(&mut model.weights, objective);
        model
    }

    fn probabilities(&self, row: &Row) -> Vec<f64> {
        let log_p = log_probabilities(&self.weights, self.outputs, self.classes, row);
        log_p.into_iter().map(f64::exp).collect()
    }
}

/// Log-softmax of the logits; with fewer outputs than classes the first class has logit 0.
fn log_probabilities(weights: &[f64], outputs: usize, classes: usize, row: &Row) -> Vec<f64> {
    let mut logits = vec![0.0; classes - outputs];
    let stride = weights.len().checked_div(outputs).unwrap_or(1);
    for output in weights.chunks(stride) {
        let intercept = output.last().copied().unwrap_or(0.0);
        logits.push(intercept + row.iter().map(|(feature, value)| output[*feature] * value).sum::<f64>());
    }
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = top + logits.iter().map(|logit| (logit - top).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - total).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// L-BFGS (Nocedal & Wright, algorithm 7.4) with ten corrections and backtracking, for a smooth convex objective that returns its
/// value and fills in its gradient. Ends when no gradient entry exceeds 1e-6, progress stops, or after 1,000 rounds.
fn minimise(x: &mut [f64], objective: impl Fn(&[f64], &mut [f64]) -> f64) {
    let mut gradient = vec![0.0; x.len()];
    let mut value = objective(x, &mut gradient);
    let mut history: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for round in 0..1000 {
        let largest = gradient.iter().fold(0.0_f64, |top, entry| top.max(entry.abs()));
        if largest <= 1e-6 {
            return;
        }
        let mut direction: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
        let mut alphas = Vec::with_capacity(history.len());
        for (step, change) in history.iter().rev() {
            let alpha = dot(step, &direction) / dot(step, change);
            direction.iter_mut().zip(change).for_each(|(d, y)| *d -= alpha * y);
            alphas.push(alpha);
        }
        let scale = match history.back() {
            Some((step, change)) => dot(step, change) / dot(change, change),
            None => 1.0 / dot(&gradient, &gradient).sqrt().max(1.0),
        };
        direction.iter_mut().for_each(|d| *d *= scale);
        for ((step, change), alpha) in history.iter().zip(alphas.into_iter().rev()) {
            let beta = dot(change, &direction) / dot(step, change);
            direction.iter_mut().zip(step).for_each(|(d, s)| *d += (alpha - beta) * s);
        }
        let slope = dot(&gradient, &direction);
        let (mut length, mut next_gradient) = (1.0, vec![0.0; x.len()]);
        let next = loop {
            let candidate: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let next_value = objective(&candidate, &mut next_gradient);
            if next_value <= value + 1e-4 * length * slope {
                value = next_value;
                break candidate;
            }
            length /= 2.0;
            if length < 1e-12 {
                return;
            }
        };
        let step: Vec<f64> = next.iter().zip(x.iter()).map(|(new, old)| new - old).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        if dot(&step, &change) > 1e-14 {
            history.push_back((step, change));
            if history.len() > 10 {
                history.pop_front();
            }
        } else if round > 0 && dot(&step, &step) == 0.0 {
            return;
        }
        x.copy_from_slice(&next);
        gradient = next_gradient;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
        pairs.iter().map(|(text, label)| ((*text).to_owned(), *label)).collect()
    }

    fn corpus() -> Vec<(String, usize)> {
        examples(&[
            ("the cell membrane binds the protein", 0),
            ("a protein in the cell nucleus", 0),
            ("the court ruled on the appeal", 1),
            ("judges of the court heard an appeal today", 1),
            ("the striker scored a goal", 2),
            ("a late goal won the match, the final match", 2),
            ("the match ended", 2),
        ])
    }

    const QUERIES: [&str; 4] = ["the protein match", "an appeal to the court", "xyzzy", "A goal in the Cell!"];

    fn probabilities(train: &[(String, usize)], classes: usize) -> Result<Vec<Vec<f64>>> {
        let documents = train.iter().map(|(text, _)| words(text)).collect::<Result<Vec<_>>>()?;
        let tfidf = TfIdf::fit(&documents);
        let rows: Vec<Row> = documents.iter().map(|document| tfidf.row(document)).collect();
        let labels: Vec<usize> = train.iter().map(|(_, label)| *label).collect();
        let model = LogisticRegression::fit(&rows, &labels, classes, tfidf.idf.len());
        QUERIES.iter().map(|query| Ok(model.probabilities(&tfidf.row(&words(query)?)))).collect()
    }

    fn assert_close(got: &[Vec<f64>], wanted: &[&[f64]]) {
        for (got, wanted) in got.iter().zip(wanted) {
            for (got, wanted) in got.iter().zip(*wanted) {
                assert!((got - wanted).abs() < 1e-5, "{got} should be {wanted}");
            }
        }
    }

    /// scikit-learn 1.9.1: `TfidfVectorizer()` and `LogisticRegression(tol=1e-12, max_iter=100000)` fitted on the corpus above,
    /// `predict_proba` of the queries.
    #[test]
    fn three_classes_equal_scikit_learn() -> Result<()> {
        let wanted: [&[f64]; 4] = [
            &[0.3086712361834492, 0.2102645598816943, 0.48106420393485655],
            &[0.22151075581821522, 0.4652049509991506, 0.3132842931826342],
            &[0.27834143251683896, 0.288018818797812, 0.43363974868534894],
            &[0.3752099594493921, 0.2224177263668056, 0.4023723141838022],
        ];
        assert_close(&probabilities(&corpus(), 3)?, &wanted);
        Ok(())
    }

    /// The same on the first four documents, where scikit-learn fits one set of weights for two classes.
    #[test]
    fn two_classes_equal_scikit_learn() -> Result<()> {
        let wanted: [&[f64]; 4] = [
            &[0.5628410010225892, 0.43715899897741084],
            &[0.4066940789181984, 0.5933059210818016],
            &[0.4941021212134278, 0.5058978787865722],
            &[0.5782497060343088, 0.4217502939656912],
        ];
        assert_close(&probabilities(&corpus()[..4], 2)?, &wanted);
        Ok(())
    }

    #[test]
    fn words_are_those_of_scikit_learn() -> Result<()> {
        assert_eq!(words("A goal, in the CELL's b-2 x_1!")?, ["goal", "in", "the", "cell", "x_1"]);
        Ok(())
    }

    #[test]
    fn the_majority_class_is_the_training_sets() -> Result<()> {
        let baseline = majority(&corpus(), &examples(&[("x", 2), ("y", 1)]), 3)?;
        assert_eq!((baseline.accuracy, baseline.predictions), (0.5, vec![2, 2]));
        Ok(())
    }

    #[test]
    fn a_class_without_examples_is_never_predicted_and_one_class_is_always() -> Result<()> {
        let train = examples(&[("alpha beta", 0), ("gamma delta", 3)]);
        let test = examples(&[("alpha", 0), ("delta", 3), ("nothing", 1)]);
        let baseline = bag_of_words(&train, &test, 4)?;
        assert_eq!(baseline.predictions[..2], [0, 3]);
        assert!((baseline.accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(bag_of_words(&train[..1], &test, 4)?.predictions, [0, 0, 0]);
        Ok(())
    }

    #[test]
    fn bad_input_is_refused() {
        let (some, none) = (examples(&[("a", 0)]), examples(&[]));
        assert!(bag_of_words(&none, &some, 1).is_err() && bag_of_words(&some, &none, 1).is_err());
        assert!(bag_of_words(&examples(&[("a", 2)]), &some, 2).unwrap_err().to_string().contains("label 2"));
    }
}
