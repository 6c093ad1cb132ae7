//! What is wrong at the moment? Several parts of the daemon know something of it; each keeps its own kind in step.

use tokio::sync::watch;

use crate::problem::Problem;

/// The problems that `meshd status` shows.
#[derive(Debug, Clone, Default)]
pub struct Health(watch::Sender<Vec<Problem>>);

impl Health {
    /// For whoever shows it.
    pub fn watch(&self) -> watch::Receiver<Vec<Problem>> {
        self.0.subscribe()
    }

    /// These are found at the start, and stay.
    pub fn begin_with(&self, problems: Vec<Problem>) {
        self.0.send_modify(|health| health.extend(problems));
    }

    /// These, in place of all with this code. Whether there were none before, and now are.
    pub fn set(&self, code: &str, problems: impl IntoIterator<Item = Problem>) -> bool {
        let problems: Vec<Problem> = problems.into_iter().collect();
        let is_ours = |known: &Problem| known.code == code;
        let mut begins = false;
        self.0.send_if_modified(|health| {
            let before = health.iter().filter(|known| is_ours(known));
            if before.clone().eq(&problems) {
                return false;
            }
            begins = before.count() == 0;
            health.retain(|known| !is_ours(known));
            health.extend(problems);
            true
        });
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &str, title: &str) -> Problem {
        Problem::new(0, code, title)
    }

    #[test]
    fn each_kind_is_kept_in_step_by_itself_and_the_same_is_no_news() {
        let health = Health::default();
        health.begin_with(vec![problem("a", "one")]);
        let mut shown = health.watch();
        assert!(health.set("b", [problem("b", "two"), problem("b", "three")]));
        assert!(!health.set("b", [problem("b", "four")]), "it goes on");
        assert_eq!(
            *shown.borrow_and_update(),
            [problem("a", "one"), problem("b", "four")]
        );
        health.set("b", [problem("b", "four")]);
        assert!(!shown.has_changed().unwrap());
        assert!(!health.set("b", None));
        assert_eq!(*shown.borrow_and_update(), [problem("a", "one")]);
    }
}
