//! Real text, where the development data lies beside the checkout; skipped with a printed reason where it does not.

use std::path::PathBuf;

use anyhow::Result;
use recyclable::text::{Corpus, MaskingConfig, MlmData, Sequences, Task, TaskData, Tokenizer};

fn data() -> Option<PathBuf> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !data.is_dir() {
        println!("skipped: there is no {}", data.display());
        return None;
    }
    Some(data)
}

#[test]
fn the_development_data_loads_and_its_known_overlaps_are_found() -> Result<()> {
    let Some(data) = data() else { return Ok(()) };
    let news = Corpus::load(data.join("corpora/news.txt"))?;
    assert_eq!(news.len(), 4870);
    let held_out = news.by_hash(0.0, 0.02);
    assert!((50..150).contains(&held_out.len()), "{}", held_out.len());

    let chemprot = Task::load(data.join("tasks/chemprot"))?;
    assert_eq!(chemprot.num_labels(), 13);
    assert_eq!((chemprot.train.len(), chemprot.dev.len(), chemprot.test.len()), (4169, 2427, 3469));
    assert!((Task::majority_share(&chemprot.test) - 0.362).abs() < 0.001);
    assert_eq!((chemprot.overlaps().test_in_train, chemprot.overlaps().total()), (4, 4));

    for task in ["ag_news", "rt_polarity", "acl_arc"] {
        let task = Task::load(data.join("tasks").join(task))?;
        println!("{}; {}", task.overlaps(), news.leaks(&task)?);
        assert_eq!(news.leaks(&task)?.total(), 0);
    }
    Ok(())
}

#[test]
fn a_tokenizer_trained_on_real_text_encodes_a_corpus_and_a_task() -> Result<()> {
    let Some(data) = data() else { return Ok(()) };
    let news = Corpus::load(data.join("corpora/news.txt"))?;
    let tokenizer = Tokenizer::train_bpe(news.iter(), 2000)?;
    assert_eq!(tokenizer.vocab_size(), 2000);
    let packed = Sequences::packed(&news, &tokenizer, 64)?;
    let data_mlm = MlmData::new(packed.ids, &tokenizer, 16, MaskingConfig::default(), 0)?;
    assert_eq!(data_mlm.batch(3)?.tokens.size(), (16, 64));

    let task = Task::load(data.join("tasks/rt_polarity"))?.limit(500, 100, 100, 0);
    let split = TaskData::new(&task.train, &tokenizer, 32)?;
    println!("{} of {} texts truncated", split.truncated(), split.len());
    assert!(split.truncated() > 0 && split.longest() == 32);
    assert_eq!(split.batch(0, 32, 0)?.labels.size(), [32]);
    Ok(())
}
