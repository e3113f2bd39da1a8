//! A table that is printed page by page: the first page decides how wide its columns are.

use super::say;
use crate::failure::Outcome;

/// No column is made wider than this for the sake of one cell.
const WIDEST: usize = 48;

/// A table under way.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<String>,
    widths: Vec<usize>,
    waiting: Vec<Vec<String>>,
    begun: bool,
}

impl Table {
    pub(crate) fn new(head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let head: Vec<String> = head.into_iter().map(Into::into).collect();
        let widths = head.iter().map(|cell| cell.chars().count()).collect();
        Self { head, widths, waiting: Vec::new(), begun: false }
    }

    /// Adds a row, which is printed with the others of its page.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.waiting.push(cells);
    }

    /// Prints the rows that wait, below the head if they are the first.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn page(&mut self) -> Outcome {
        if !self.begun {
            for row in &self.waiting {
                for (width, cell) in self.widths.iter_mut().zip(row) {
                    *width = (*width).max(cell.chars().count().min(WIDEST));
                }
            }
            say(&self.line(&self.head))?;
            self.begun = true;
        }
        for row in std::mem::take(&mut self.waiting) {
            say(&self.line(&row))?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String]) -> String {
        let padded: Vec<_> =
            cells.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    }
}
