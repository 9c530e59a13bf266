//! Paths, curves, planes and compatibility on models so small that everything takes milliseconds.

mod small;

use anyhow::Result;
use recyclable::analysis::{
    CurveConfig, PlaneConfig, Route, Tuned, linear_path, plane, scale_search, train_curve, triangle,
};
use recyclable::display::Progress;
use recyclable::model::{Adapted, AdapterConfig, Method, Version};
use recyclable::text::{Task, TaskData, Tokenizer};
use recyclable::train::{Optimisation, Start, evaluate, pretrain, tune};
use tch::{Device, Tensor};

use small::{refused, says};

const CPU: Device = Device::Cpu;

/// M_0 and its upgrade M_1.
fn versions() -> Result<[Version; 2]> {
    let pretrained =
        |base: &Version| pretrain(base, &small::corpus()?, &small::pretraining(10), CPU, None, &Progress::silent());
    let m0 = pretrained(&small::version(1)?)?.version;
    let m1 = pretrained(&m0)?.version;
    Ok([m0, m1])
}

fn tuned(version: &Version, task: &Task, method: Method, seed: u64) -> Result<Adapted> {
    let config = recyclable::train::TuneConfig { seed, ..small::tuning(method, 12) };
    Ok(tune(version, task, Start::Fresh, &config, CPU, &Progress::silent())?.last)
}

fn data(task: &Task) -> Result<TaskData> {
    TaskData::new(&task.test, &small::tokenizer()?, small::LENGTH)
}

#[test]
fn the_ends_of_a_path_are_the_tuned_models_themselves_for_every_method() -> Result<()> {
    let ([m0, m1], task) = (versions()?, small::task(&["low", "high"]));
    let data = data(&task)?;
    for method in [Method::Full, Method::Adapter(AdapterConfig { bottleneck: 4, ..Default::default() })] {
        let (d0, d1) = (tuned(&m0, &task, method.clone(), 3)?, tuned(&m1, &task, method, 3)?);
        let (a, b) = (Tuned::new(&m0, &d0), Tuned::new(&m1, &d1));
        let path = linear_path(a, b, 5, &[("test", &data)], CPU)?.named("M_0 ⊕ Δ_0", "M_1 ⊕ Δ_1");
        assert_eq!(path.points.iter().map(|point| point.mu).collect::<Vec<_>>(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        for (at, end) in [(0, a), (4, b)] {
            let direct = evaluate(&end.model(CPU)?, &data)?.scores;
            assert_eq!(path.points[at].scores["test"], Some(direct));
        }
        // Half way: the mean of all parameters, heads included.
        let half = |x: &Tensor, y: &Tensor| (x + y) / 2.0;
        let (ends, middle) = ([a.model(CPU)?, b.model(CPU)?], path.points[2].scores["test"].unwrap());
        let mut mixed = d0.try_clone()?;
        for entry in d0.head.layout().entries() {
            mixed.head.set(&entry.name, &half(&d0.head.get(&entry.name)?, &d1.head.get(&entry.name)?))?;
        }
        if let (Some(modules), Some(x), Some(y)) = (&mut mixed.modules, &d0.modules, &d1.modules) {
            for entry in x.layout().entries() {
                modules.set(&entry.name, &half(&x.get(&entry.name)?, &y.get(&entry.name)?))?;
            }
        }
        let mut base = m0.try_clone()?;
        base.backbone = ends[0].backbone().lerp(ends[1].backbone(), 0.5)?;
        mixed.backbone = None;
        mixed.card.base_layout = base.backbone.layout().fingerprint();
        let direct = evaluate(&mixed.apply(&base, CPU)?, &data)?.scores;
        assert!((direct.loss - middle.loss).abs() < 1e-6, "{} {}", direct.loss, middle.loss);
        let barrier = path.barrier("test")?;
        assert!(barrier.loss >= 0.0 && barrier.accuracy >= 0.0);
        assert!(path.table().to_text().contains("M_0 ⊕ Δ_0") && path.figure().to_svg()?.contains("accuracy"));
    }
    Ok(())
}

#[test]
fn ends_without_a_common_space_and_paths_of_one_point_are_refused_with_the_reason() -> Result<()> {
    let ([m0, m1], task) = (versions()?, small::task(&["low", "high"]));
    let (d0, d1) = (tuned(&m0, &task, Method::Full, 1)?, tuned(&m1, &task, Method::Full, 1)?);
    let test = data(&task)?;
    let splits = [("test", &test)];
    let (a, b) = (Tuned::new(&m0, &d0), Tuned::new(&m1, &d1));
    says(&refused(linear_path(a, b, 1, &splits, CPU)), &["1 point", "two ends"]);
    says(&refused(linear_path(a, b, 5, &[], CPU)), &["at least one split"]);

    let other = small::task(&["low", "middle", "high"]);
    let of_other = tuned(&m1, &other, Method::Full, 1)?;
    let b_other = Tuned::new(&m1, &of_other);
    says(&refused(linear_path(a, b_other, 5, &splits, CPU)), &["middle", "cannot be mixed"]);

    let adapter = tuned(&m1, &task, Method::Adapter(AdapterConfig::default()), 1)?;
    let b_adapter = Tuned::new(&m1, &adapter);
    says(&refused(linear_path(a, b_adapter, 5, &splits, CPU)), &["Adapter", "within one tuning method"]);

    let mut words = small::words();
    words.reverse();
    let renamed = Version { tokenizer: Tokenizer::word_level(&words)?, ..m1.try_clone()? };
    let b_renamed = Tuned::new(&renamed, &d1);
    says(&refused(linear_path(a, b_renamed, 5, &splits, CPU)), &["different tokenizers"]);

    let wide = recyclable::model::EncoderConfig { hidden_size: 32, ..small::config()? };
    let wide = Version::new(&wide, &small::tokenizer()?, 1)?;
    let b_wide = Tuned::new(&wide, &d1);
    says(&refused(linear_path(a, b_wide, 5, &splits, CPU)), &["different architectures"]);
    assert!(refused(TaskData::new(&[], &small::tokenizer()?, 8)).contains("no examples"));
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_on_the_way_is_reported_and_not_drawn_as_zero() -> Result<()> {
    let ([m0, m1], task) = (versions()?, small::task(&["low", "high"]));
    let (d0, mut d1) = (tuned(&m0, &task, Method::Full, 1)?, tuned(&m1, &task, Method::Full, 1)?);
    let name = "classifier.out_proj.bias";
    d1.head.set(name, &(d1.head.get(name)? * f64::NAN))?;
    let (a, b) = (Tuned::new(&m0, &d0), Tuned::new(&m1, &d1));
    let data = data(&task)?;
    let path = linear_path(a, b, 3, &[("dev", &data)], CPU)?;
    assert!(path.points[0].scores["dev"].is_some() && path.points[1].scores["dev"].is_none());
    says(&refused(path.barrier("dev")), &["not finite at μ = 0.50, 1.00"]);
    says(&refused(path.barrier("test")), &["not evaluated on test, but on dev"]);
    let figure = path.figure();
    says(&figure.caption, &["not finite at μ = 0.50"]);
    figure.to_svg()?;
    let back: recyclable::analysis::ModePath = serde_json::from_str(&serde_json::to_string(&path)?)?;
    assert_eq!(back, path);
    Ok(())
}

#[test]
fn a_trained_curve_runs_lower_than_the_straight_line_and_ends_where_it_did() -> Result<()> {
    let task = small::task(&["low", "high"]);
    let (m0, other) = (small::version(1)?, small::version(2)?);
    let (d0, d1) = (tuned(&m0, &task, Method::Full, 1)?, tuned(&other, &task, Method::Full, 2)?);
    let (a, b) = (Tuned::new(&m0, &d0), Tuned::new(&other, &d1));
    let train = TaskData::new(&task.train, &small::tokenizer()?, small::LENGTH)?;
    let splits = [("train", &train)];
    let line = linear_path(a, b, 9, &splits, CPU)?;
    let mean = |path: &recyclable::analysis::ModePath| -> Result<f64> {
        let scores = path.scores("train")?;
        Ok(scores.iter().map(|(_, scores)| scores.unwrap().loss).sum::<f64>() / scores.len() as f64)
    };
    for route in [Route::Bezier, Route::Chain] {
        let optimisation = Optimisation { steps: 60, learning_rate: 1e-2, ..Default::default() };
        let config = CurveConfig { route, optimisation, batch_size: 8, seed: 0 };
        let curve = train_curve(a, b, &train, &config, CPU, &Progress::silent())?;
        let path = curve.path(9, &splits)?;
        assert!(mean(&path)? < mean(&line)? - 0.02, "{route:?}: {} is not below {}", mean(&path)?, mean(&line)?);
        for at in [0, 8] {
            assert_eq!(path.points[at], line.points[at], "the ends stay");
        }
        let again = train_curve(a, b, &train, &config, CPU, &Progress::silent())?.path(9, &splits)?;
        assert_eq!(again, path, "the same seed bends the same curve");
    }
    let config = CurveConfig { route: Route::Line, ..CurveConfig::default() };
    says(&refused(train_curve(a, b, &train, &config, CPU, &Progress::silent())), &["Bezier or Chain"]);
    Ok(())
}

#[test]
fn a_plane_passes_through_its_three_models() -> Result<()> {
    let ([m0, m1], task) = (versions()?, small::task(&["low", "high"]));
    let weights =
        [tuned(&m0, &task, Method::Full, 1)?, tuned(&m1, &task, Method::Full, 1)?, tuned(&m0, &task, Method::Full, 2)?];
    let models = [(&m0, &weights[0]), (&m1, &weights[1]), (&m0, &weights[2])];
    let models = models.map(|(version, adapted)| Tuned::new(version, adapted));
    let data = data(&task)?;
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let config = PlaneConfig { resolution: 3, margin: 0.0 };
    let found = plane(models, &config, ("test", &data), CPU)?.named(["a", "b", "c"]);
    assert_eq!(found.places[0], (0.0, 0.0));
    let distance = |x: &recyclable::model::Model, y: &recyclable::model::Model| -> Result<f64> {
        let parts = [(x.backbone() - y.backbone())?.norm()?, (x.head() - y.head())?.norm()?];
        Ok(parts[0].hypot(parts[1]))
    };
    let [a, b, c] = [models[0].model(CPU)?, models[1].model(CPU)?, models[2].model(CPU)?];
    let between = |p: (f64, f64), q: (f64, f64)| (p.0 - q.0).hypot(p.1 - q.1);
    for (here, there, wanted) in [(0, 1, distance(&a, &b)?), (0, 2, distance(&a, &c)?), (1, 2, distance(&b, &c)?)] {
        assert!((between(found.places[here], found.places[there]) - wanted).abs() < 1e-3 * wanted);
    }
    // A grid of two by two has the second model in a corner when the models are ordered so that the third lies between in x.
    let corner = |order: [usize; 3]| -> Result<()> {
        let config = PlaneConfig { resolution: 2, margin: 0.0 };
        let found = plane(order.map(|at| models[at]), &config, ("test", &data), CPU)?;
        let tuned = [&a, &b, &c];
        for (place, at) in found.places.into_iter().zip(order) {
            let on = |values: &[f64], value: f64| values.iter().position(|one| (one - value).abs() < 1e-6);
            let (Some(column), Some(row)) = (on(&found.xs, place.0), on(&found.ys, place.1)) else { continue };
            let (here, direct) = (found.scores[row][column].unwrap().loss, evaluate(tuned[at], &data)?.scores.loss);
            assert!((here - direct).abs() < 1e-5, "model {at} of {order:?}: {here} {direct}");
            seen.borrow_mut().insert(order.iter().position(|one| *one == at).unwrap());
        }
        Ok(())
    };
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]] {
        corner(order)?;
    }
    assert!(
        seen.borrow().contains(&0) && seen.borrow().contains(&1),
        "two models stand on the grid in some order: {seen:?}"
    );
    assert!(found.figure().to_svg()?.contains("accuracy on test") && found.loss_figure().to_svg()?.contains("loss"));
    let flat = [models[0], models[1], models[0]];
    says(&refused(plane(flat, &config, ("test", &data), CPU)), &["one line"]);
    Ok(())
}

#[test]
fn a_triangle_holds_every_delta_on_every_later_version() -> Result<()> {
    let ([m0, m1], task) = (versions()?, small::task(&["low", "high"]));
    let (d0, d1) = (tuned(&m0, &task, Method::Full, 1)?, tuned(&m1, &task, Method::Full, 1)?);
    let tuned = [Tuned::new(&m0, &d0), Tuned::new(&m1, &d1)];
    let data = data(&task)?;
    let found = triangle(&["M_0", "M_1"], &tuned, &data, 0.5, CPU)?;
    assert_eq!(found.scores[0][1], evaluate(&d0.apply(&m1, CPU)?, &data)?.scores);
    assert_eq!(found.scores[1][0], evaluate(&d1.apply(&m1, CPU)?, &data)?.scores);
    assert_eq!((found.scores[0].len(), found.scores[1].len()), (2, 1));
    let own = found.flips[0][0];
    assert_eq!((own.positive, own.negative), (0, 0), "nothing flips against itself");
    let moved = found.flips[0][1];
    let change = found.scores[0][1].accuracy - found.scores[0][0].accuracy;
    assert!((moved.positive_rate() - moved.negative_rate() - change).abs() < 1e-12);
    assert!(found.table().to_text().contains("on M_1"));
    found.figure().to_svg()?;
    says(&refused(triangle(&["M_0"], &tuned, &data, 0.5, CPU)), &["1 names do not fit 2"]);
    Ok(())
}

#[test]
fn scaling_by_one_changes_nothing_and_by_zero_leaves_the_base_under_the_head() -> Result<()> {
    let ([m0, m1], task) = (versions()?, small::task(&["low", "high"]));
    let (dev, test) = (TaskData::new(&task.dev, &small::tokenizer()?, small::LENGTH)?, data(&task)?);
    for method in [Method::Full, Method::Adapter(AdapterConfig { bottleneck: 4, ..Default::default() })] {
        let d0 = tuned(&m0, &task, method, 1)?;
        let found = scale_search(Tuned::new(&m1, &d0), &[1.0, 0.0, 0.5], &dev, &test, CPU)?;
        assert_eq!(found.dev.iter().map(|(alpha, _)| *alpha).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
        assert_eq!(found.test_at_one, evaluate(&d0.apply(&m1, CPU)?, &test)?.scores);
        assert!(found.dev.iter().all(|(_, scores)| {
            scores.accuracy <= found.dev.iter().find(|(alpha, _)| *alpha == found.best).unwrap().1.accuracy
        }));
        let zero = d0.scaled(0.0)?;
        if let (Some(delta), Some(whole)) = (&zero.backbone, &d0.backbone) {
            assert_eq!(delta.norm()?, 0.0);
            let half = d0.scaled(0.5)?.backbone.unwrap();
            assert!((half.norm()? - 0.5 * whole.norm()?).abs() < 1e-6 && (half.cosine(whole)? - 1.0).abs() < 1e-6);
        }
        if zero.modules.is_some() {
            // Adapters that add nothing leave the bare backbone under the head.
            let bare = Adapted { modules: None, backbone: None, ..zero.try_clone()? };
            let mut bare =
                Adapted { card: recyclable::model::Card { method: Method::Full, ..bare.card.clone() }, ..bare };
            bare.backbone = Some((&m1.backbone - &m1.backbone)?);
            let (with, without) = (evaluate(&zero.apply(&m1, CPU)?, &test)?, evaluate(&bare.apply(&m1, CPU)?, &test)?);
            assert!((with.scores.loss - without.scores.loss).abs() < 1e-6);
        }
        assert_eq!(zero.head.fingerprint()?, d0.head.fingerprint()?);
        assert_eq!(found.chance, 0.5);
        assert!(found.figure().to_svg()?.contains("chance"));
    }
    Ok(())
}
