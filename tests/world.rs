//! What the built-in world promises.

use std::collections::HashSet;

use anyhow::Result;
use recyclable::text::{Example, World, WorldConfig};

fn small(change: impl FnOnce(&mut WorldConfig)) -> Result<World> {
    let mut config = WorldConfig {
        seed: 11,
        general_documents: 600,
        initial_documents: 50,
        domain_documents: 400,
        train: 120,
        dev: 40,
        test: 60,
        ..Default::default()
    };
    change(&mut config);
    World::new(config)
}

#[test]
fn equal_configurations_make_equal_worlds_and_seeds_make_different_ones() -> Result<()> {
    let (one, same, other) = (small(|_| ())?, small(|_| ())?, small(|config| config.seed = 12)?);
    assert_eq!(one.tasks(), same.tasks());
    assert_eq!(one.initial_corpus()?, same.initial_corpus()?);
    assert_eq!(one.tokenizer()?.to_json()?, same.tokenizer()?.to_json()?);
    assert_ne!(one.corpus("bio")?, other.corpus("bio")?);
    Ok(())
}

#[test]
fn texts_have_a_size_to_train_on_and_no_unknown_words() -> Result<()> {
    let world = small(|_| ())?;
    let tokenizer = world.tokenizer()?;
    assert!((1300..=2000).contains(&tokenizer.vocab_size()), "{}", tokenizer.vocab_size());
    let far = small(|config| (config.domain_distance, config.shared_vocabulary) = (1.0, 0.0))?;
    assert!(far.tokenizer()?.vocab_size() <= 2000, "{}", far.tokenizer()?.vocab_size());
    assert_eq!(world.domains(), ["general", "bio", "reviews", "news", "cs"]);
    let mut texts = world.initial_corpus()?.documents;
    assert_eq!(texts.len(), 600 + 4 * 50);
    for name in world.domains() {
        texts.extend(world.corpus(name)?.documents);
    }
    for task in world.tasks() {
        texts.extend([&task.train, &task.dev, &task.test].into_iter().flatten().map(|example| example.text.clone()));
    }
    for text in texts {
        let encoding = tokenizer.encode(&text, None, World::MAX_LEN)?;
        assert!(!encoding.truncated && !encoding.ids.contains(&tokenizer.unk_id()), "{text}");
        assert!(encoding.ids.len() >= 20, "{text}");
    }
    Ok(())
}

#[test]
fn no_text_stands_in_two_splits_or_in_a_corpus() -> Result<()> {
    let world = small(|_| ())?;
    let mut corpora = vec![world.initial_corpus()?];
    for name in world.domains() {
        corpora.push(world.corpus(name)?);
    }
    for task in world.tasks() {
        assert_eq!(task.overlaps().total(), 0, "{}", task.overlaps());
        for corpus in &corpora {
            assert_eq!(corpus.leaks(task)?.total(), 0, "{}", corpus.leaks(task)?);
        }
    }
    Ok(())
}

#[test]
fn tasks_are_of_four_kinds_in_four_domains_with_relatives() -> Result<()> {
    let world = small(|_| ())?;
    let kinds: HashSet<String> = world.cards().iter().map(|card| format!("{:?}", card.kind)).collect();
    assert_eq!(kinds.len(), 4);
    for (card, task) in world.cards().iter().zip(world.tasks()) {
        assert_eq!((card.name, Some(card.domain)), (task.name.as_str(), task.domain.as_deref()));
        assert!(task.labels.is_sorted() && task.labels == card.labels, "labels as a saved task would number them");
        for relative in card.similar_to.iter().chain([&card.different_from]) {
            world.task(relative)?;
        }
        if let Some(similar) = card.similar_to {
            assert_eq!(world.task(similar)?.domain, task.domain);
        }
        assert_ne!(world.task(card.different_from)?.domain, task.domain);
    }
    assert!(world.task("nothing").unwrap_err().to_string().contains("bio_topic"));
    assert!(world.corpus("nowhere").unwrap_err().to_string().contains("general, bio"));
    Ok(())
}

#[test]
fn classes_are_balanced_as_the_dial_says() -> Result<()> {
    let counts = |world: &World, name: &str| -> Result<Vec<usize>> {
        let task = world.task(name)?;
        let count = |label| task.train.iter().filter(|example| example.label == label).count();
        Ok((0..task.num_labels()).map(count).collect())
    };
    assert_eq!(counts(&small(|_| ())?, "bio_topic")?, [30, 30, 30, 30]);
    let skewed = small(|config| config.class_balance = 0.5)?;
    assert_eq!(counts(&skewed, "bio_topic")?, [64, 32, 16, 8]);
    assert_eq!(counts(&skewed, "review_sentiment")?, [80, 40]);
    Ok(())
}

#[test]
fn the_farther_a_domain_the_fewer_words_it_shares() -> Result<()> {
    let mut before = f64::INFINITY;
    for distance in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let shared = small(|config| config.domain_distance = distance)?.shared_words("news")?;
        assert!(shared < before, "{shared} at {distance}");
        before = shared;
    }
    let none = small(|config| (config.domain_distance, config.shared_vocabulary) = (1.0, 0.0))?;
    assert_eq!(none.shared_words("bio")?, 0.0);
    let all = small(|config| config.domain_distance = 0.0)?;
    assert_eq!(all.shared_words("bio")?, 1.0);
    Ok(())
}

#[test]
fn documents_read_as_their_domain_does() -> Result<()> {
    let world = small(|_| ())?;
    let share = |corpus: &str, end: &str| -> Result<f64> {
        let corpus = world.corpus(corpus)?;
        let found = corpus.iter().filter(|text| text.split(' ').any(|word| word.ends_with(end))).count();
        Ok(found as f64 / corpus.len() as f64)
    };
    assert!(share("bio", "ase")? > 0.3 && share("general", "ase")? == 0.0);
    assert!(share("cs", "ware")? > 0.3 && share("bio", "ware")? == 0.0);
    Ok(())
}

#[test]
fn upgrades_choose_domains_and_their_order_without_changing_them() -> Result<()> {
    let (all, two) = (small(|_| ())?, small(|config| config.upgrades = vec!["cs".into(), "bio".into()])?);
    assert_eq!(two.domains(), ["general", "cs", "bio"]);
    assert_eq!(two.corpus("bio")?, all.corpus("bio")?);
    assert_eq!(two.task("cs_intent")?, all.task("cs_intent")?);
    assert!(two.task("news_topic").is_err());
    Ok(())
}

#[test]
fn dials_out_of_range_are_refused_by_name() {
    let refuse = |change: fn(&mut WorldConfig)| format!("{:#}", small(change).unwrap_err());
    assert!(refuse(|config| config.domain_distance = 1.5).contains("domain_distance"));
    assert!(refuse(|config| config.noise = [0.6, 0.2]).contains("noise"));
    assert!(refuse(|config| config.task_noise = [f64::NAN, 0.5]).contains("task_noise"));
    assert!(refuse(|config| config.class_balance = 0.0).contains("class_balance"));
    assert!(refuse(|config| config.concepts = 6).contains("concepts"));
    assert!(refuse(|config| config.upgrades = vec!["law".into()]).contains("bio, reviews, news, cs"));
    assert!(refuse(|config| config.upgrades = vec!["bio".into(), "bio".into()]).contains("twice"));
    assert!(refuse(|config| config.upgrades.clear()).contains("upgrades"));
    assert!(refuse(|config| config.train = 0).contains("train"));
}

#[test]
fn the_words_of_test_texts_are_as_new_as_the_dial_says() -> Result<()> {
    let words = |examples: &[Example]| -> HashSet<String> {
        examples.iter().flat_map(|example| example.text.split(' ').map(String::from)).collect()
    };
    for name in ["bio_topic", "bio_relation", "review_sentiment", "cs_intent"] {
        let seen = |new_words: f64| -> Result<(usize, usize)> {
            let world = small(|config| (config.new_words, config.shared_vocabulary) = (new_words, 0.0))?;
            let task = world.task(name)?;
            let (train, test) = (words(&task.train), words(&task.test));
            Ok((test.intersection(&train).count(), test.difference(&train).count()))
        };
        // What is left in common are function words, negators and marks.
        let ((known, new), (all_known, none_new)) = (seen(1.0)?, seen(0.0)?);
        assert!(known < 60 && new > 80, "{name}: {known} known, {new} new");
        assert!(all_known > 100 && none_new < all_known / 4, "{name}: {all_known} known, {none_new} new");
    }
    Ok(())
}
