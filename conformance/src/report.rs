//! The matrix: scenarios by file, one column a driver; then what failed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    play::{Cell, Failure},
    scenario::Scenario,
};

/// Most characters of a value that is shown.
const SHOWN_CHARS_MAX: usize = 700;
/// Width of a cell: the longest name of a capability fits in.
const CELL_CHARS: usize = 24;

/// All cells.
pub struct Report<'a> {
    scenarios: &'a [Scenario],
    columns: Vec<(&'a str, Vec<Cell>)>,
}

impl<'a> Report<'a> {
    /// No columns yet.
    pub fn new(scenarios: &'a [Scenario]) -> Self {
        Self {
            scenarios,
            columns: Vec::new(),
        }
    }

    /// Adds what a driver did, one cell a scenario.
    pub fn add(&mut self, driver: &'a str, cells: Vec<Cell>) {
        self.columns.push((driver, cells));
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.columns.iter().flat_map(|(_, cells)| cells)
    }

    /// How many cells are as they should be.
    pub fn passed(&self) -> usize {
        self.cells()
            .filter(|cell| matches!(cell, Cell::Passed))
            .count()
    }

    /// How many are not.
    pub fn failed(&self) -> usize {
        self.cells()
            .filter(|cell| matches!(cell, Cell::Failed(_)))
            .count()
    }

    /// The matrix, the failures, and how many scenarios every driver passed.
    pub fn matrix(&self) -> String {
        let mut text = String::new();
        let mut file = "";
        for (i, scenario) in self.scenarios.iter().enumerate() {
            if scenario.file != file {
                file = &scenario.file;
                let _ = write!(text, "\n{file:92}");
                for (driver, _) in &self.columns {
                    let _ = write!(text, "{driver:CELL_CHARS$}");
                }
                text = text.trim_end().to_owned() + "\n";
            }
            let mut line = format!("  {:90}", scenario.name);
            for (_, cells) in &self.columns {
                let cell = match &cells[i] {
                    Cell::Passed => "ok".to_owned(),
                    Cell::Failed(_) => "FAILED".to_owned(),
                    // One is reason enough.
                    Cell::Lacking(lacking) => format!("no {}", lacking.first().map_or("", |it| it)),
                };
                let _ = write!(line, "{cell:CELL_CHARS$}");
            }
            text += line.trim_end();
            text.push('\n');
        }
        for (driver, cells) in &self.columns {
            for (scenario, cell) in self.scenarios.iter().zip(cells) {
                if let Cell::Failed(failure) = cell {
                    let _ = write!(
                        text,
                        "\n{driver}: {}: {}\n{failure}",
                        scenario.file, scenario.name
                    );
                }
            }
        }
        let everywhere = (0..self.scenarios.len()).filter(|i| {
            self.columns
                .iter()
                .all(|(_, cells)| matches!(cells[*i], Cell::Passed))
        });
        let (all, by_all) = (self.scenarios.len(), everywhere.count());
        let _ = writeln!(
            text,
            "\n{all} scenarios, {by_all} of them passed by every driver"
        );
        text
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let scenario = |(i, scenario): (usize, &Scenario)| {
            let cells = self.columns.iter().map(|(driver, cells)| {
                let cell = match &cells[i] {
                    Cell::Passed => json!({"state": "passed"}),
                    Cell::Lacking(lacking) => json!({"state": "lacking", "capabilities": lacking}),
                    Cell::Failed(f) => json!({"state": "failed", "step": f.step, "asked": f.asked, "expected": f.expected, "found": f.found}),
                };
                ((*driver).to_owned(), cell)
            });
            let cells: serde_json::Map<String, Value> = cells.collect();
            json!({"file": scenario.file, "name": scenario.name, "drivers": cells})
        };
        json!({
            "scenarios": self.scenarios.iter().enumerate().map(scenario).collect::<Vec<_>>(),
            "passed": self.passed(),
            "failed": self.failed(),
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  step      {}", self.step)?;
        for (name, value) in [
            ("asked", &self.asked),
            ("expected", &self.expected),
            ("found", &self.found),
        ] {
            if !value.is_null() {
                let text: String = value.to_string().chars().take(SHOWN_CHARS_MAX).collect();
                writeln!(f, "  {name:9} {text}")?;
            }
        }
        Ok(())
    }
}
