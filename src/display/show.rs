//! Values that show themselves: in a notebook cell, in a terminal, beside other values.

use std::io::{self, Write};

use anyhow::Result;

use super::bundle::{cannot_display, write_evcxr};
use super::{Bundle, Figure, Table};
use crate::stats::{Interval, VarianceShares};

/// A value that can be shown. [`displayable!`](crate::displayable) makes a notebook show it when a cell ends with it, and a terminal print it.
pub trait Show {
    /// What there is to see.
    fn show(&self) -> Result<Bundle>;

    /// What the value is called where it cannot be shown.
    fn type_name(&self) -> &'static str {
        let full = std::any::type_name::<Self>();
        let bare = full.split('<').next().unwrap_or(full);
        bare.rsplit("::").next().unwrap_or(bare)
    }
}

/// Several values in one cell, one below the other.
///
/// ```
/// # use recyclable::display::{Table, show_all};
/// # let (first, second) = (Table::default(), Table::default());
/// show_all(&[&first, &second])
/// # ;
/// ```
pub fn show_all(values: &[&dyn Show]) -> Bundle {
    values.iter().fold(Bundle::new(), |bundle, value| bundle.with(*value))
}

/// Gives types that implement [`Show`](crate::display::Show) an inherent `evcxr_display`, which a notebook calls on the value a cell
/// ends with, and `Display`, for terminals. After `notebook:` stand types that have a `Display` of their own.
///
/// ```
/// use recyclable::display::{Bundle, Show};
///
/// struct Answer(u32);
///
/// impl Show for Answer {
///     fn show(&self) -> anyhow::Result<Bundle> {
///         Ok(Bundle::new().text(format!("The answer is {}.", self.0)))
///     }
/// }
/// recyclable::displayable!(Answer);
///
/// assert_eq!(Answer(42).to_string(), "The answer is 42.\n");
/// Answer(42).evcxr_display();
/// ```
#[macro_export]
macro_rules! displayable {
    (notebook: $($type:ty),+ $(,)?) => {
        $(impl $type {
            /// Shows the value in a notebook; called by evcxr when a cell ends with it.
            pub fn evcxr_display(&self) {
                $crate::display::show::in_notebook(self)
            }
        })+
    };
    ($($type:ty),+ $(,)?) => {
        $crate::displayable!(notebook: $($type),+);
        $(impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::display::show::in_words(self))
            }
        })+
    };
}

/// Prints the value as the output of a notebook cell. What cannot be shown is said there and on standard error, where whoever runs
/// notebooks unattended notices it.
pub fn in_notebook<T: Show + ?Sized>(value: &T) {
    let (mut content, mut problems) = (Vec::new(), Vec::new());
    // Writing into memory cannot fail.
    let _ = write_notebook(value, &mut content, &mut problems);
    // All at once, so that no other thread's line gets into it; where nobody listens there is nothing to be done.
    let _ = io::stdout().lock().write_all(&content).and_then(|()| io::stdout().flush());
    let _ = io::stderr().lock().write_all(&problems);
}

/// What [`in_notebook`] prints: the cell's content to `out`, a line for everything that cannot be shown to `errors`.
pub fn write_notebook<T: Show + ?Sized>(value: &T, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<()> {
    let (bundle, map) = Bundle::new().with(value).drawable();
    write_evcxr(&map, out)?;
    bundle.problems().iter().try_for_each(|problem| writeln!(errors, "{problem}"))
}

/// The value for a terminal.
pub fn in_words<T: Show + ?Sized>(value: &T) -> String {
    value.show().map_or_else(|error| cannot_display(value.type_name(), &error) + "\n", |bundle| bundle.to_text())
}

impl Show for Bundle {
    fn show(&self) -> Result<Bundle> {
        Ok(self.clone())
    }
}

impl Show for Figure {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.clone()))
    }
}

impl Show for Table {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(self.clone()))
    }
}

impl Show for str {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(self))
    }
}

impl Show for String {
    fn show(&self) -> Result<Bundle> {
        self.as_str().show()
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self) -> Result<Bundle> {
        (*self).show()
    }

    fn type_name(&self) -> &'static str {
        (*self).type_name()
    }
}

impl Show for Interval {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(format!("{self} (n = {})", self.n)))
    }
}

impl Show for VarianceShares {
    fn show(&self) -> Result<Bundle> {
        let of = format!("{} groups, {} observations", self.groups, self.observations);
        Ok(Bundle::new().text(match self.between_share() {
            Some(share) => format!(
                "Variance: {:.0} % between groups (standard deviation {:.3}), {:.0} % within them ({:.3}); {of}",
                100.0 * share,
                self.between.sqrt(),
                100.0 * (1.0 - share),
                self.within.sqrt()
            ),
            None => format!("Variance: none, all observations are equal; {of}"),
        }))
    }
}

displayable!(Bundle, Figure, VarianceShares);
displayable!(notebook: Table, Interval);

#[cfg(test)]
mod tests;
