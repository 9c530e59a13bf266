//! The command line: `recyclable <command>`. Each command lives in a file of its own and does no more than read its
//! arguments, call the library and print.
//!
//! Exit status: 0 when the command did its work, 1 when it could not (the reason stands on stderr after `error:`), 2 when
//! it was called wrongly.

mod allocator;
mod apply;
mod compare;
mod doctor;
mod eval;
mod judge;
mod lineage;
mod pretrain;
mod recycle;
mod reproduce;
mod settings;
mod spec;
mod study;
mod tune;
mod tuned;
mod world;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "recyclable", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Reproduce(reproduce::Reproduce),
    Pretrain(pretrain::Pretrain),
    Tune(tune::Tune),
    Apply(apply::Apply),
    Recycle(recycle::Recycle),
    Eval(eval::Eval),
    Lineage(lineage::Lineage),
    Judge(judge::Judge),
    Compare(compare::Compare),
    Study(study::Study),
    World(world::Arguments),
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let result = match Cli::parse().command {
        Command::Reproduce(arguments) => reproduce::run(&arguments),
        Command::Pretrain(arguments) => pretrain::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Apply(arguments) => apply::run(&arguments),
        Command::Recycle(arguments) => recycle::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Lineage(arguments) => lineage::run(&arguments),
        Command::Judge(arguments) => judge::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Study(arguments) => study::run(&arguments),
        Command::World(arguments) => world::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        // The alternate form is the whole chain of causes in one line: "cannot read x: no such file".
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Writes `text` to stdout. A reader that has seen enough (`recyclable … | head`) is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}
