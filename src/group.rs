//! Group commit: what is asked while earlier work is under way is done together.
//!
//! A lone question is answered at once; a thousand at the same time share a few transactions. Only where many come together does a
//! group wait for a moment for those that are about to come, too: more of them in one transaction cost less each, and a machine that
//! is so busy answers all of them sooner.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::sleep,
};

/// Questions that wait for their turn; whoever asks beyond that waits before asking.
const WAITING: usize = 4096;
/// Where so many have come meanwhile, others are about to.
const MANY: usize = 16;
/// How long a group waits for these: less than its work takes then.
const A_MOMENT: Duration = Duration::from_millis(1);

/// Asks `I`, is answered `O`. Cheap to clone; ends with its last clone.
#[derive(Debug)]
pub struct Group<I, O> {
    questions: mpsc::Sender<(I, oneshot::Sender<O>)>,
}

impl<I, O> Clone for Group<I, O> {
    fn clone(&self) -> Self {
        Group { questions: self.questions.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> Group<I, O> {
    /// `work` is given 1 to `most` questions and returns as many answers, in their order; it runs at most `at_once` times beside
    /// itself, always to its end.
    pub fn new<W, F>(most: usize, at_once: usize, work: W) -> Group<I, O>
    where
        W: Fn(Vec<I>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<O>> + Send,
    {
        let (questions, mut asked) = mpsc::channel::<(I, oneshot::Sender<O>)>(WAITING);
        let (work, places) = (Arc::new(work), Arc::new(Semaphore::new(at_once.max(1))));
        tokio::spawn(async move {
            loop {
                // First the place, then the questions: those that come meanwhile come along.
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                let mut taken = Vec::new();
                if asked.recv_many(&mut taken, most.max(1)).await == 0 {
                    return;
                }
                if (MANY..most).contains(&taken.len()) {
                    sleep(A_MOMENT).await;
                    while taken.len() < most
                        && let Ok(another) = asked.try_recv()
                    {
                        taken.push(another);
                    }
                }
                let work = work.clone();
                tokio::spawn(async move {
                    let (items, answers): (Vec<I>, Vec<oneshot::Sender<O>>) = taken.into_iter().unzip();
                    for (answer, told) in work(items).await.into_iter().zip(answers) {
                        // Whoever asked may have gone.
                        drop(told.send(answer));
                    }
                    drop(place);
                });
            }
        });
        Group { questions }
    }

    /// The answer; none if the work panicked.
    pub async fn ask(&self, item: I) -> Option<O> {
        let (answer, told) = oneshot::channel();
        self.questions.send((item, answer)).await.ok()?;
        told.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_meanwhile_is_answered_together_and_each_gets_its_own_answer() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (began, may_go) = (begun.clone(), go.clone());
        let group = Group::new(100, 1, move |items: Vec<u32>| {
            let (began, may_go) = (began.clone(), may_go.clone());
            async move {
                began.notify_one();
                may_go.notified().await;
                let count = items.len();
                items.into_iter().map(|item| (item, count)).collect()
            }
        });
        let first = tokio::spawn({
            let group = group.clone();
            async move { group.ask(0).await }
        });
        begun.notified().await;
        let others = tokio::spawn(async move { join_all((1..=250).map(|item| group.ask(item))).await });
        tokio::task::yield_now().await;
        for _ in 0..4 {
            go.notify_one();
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(first.await.unwrap(), Some((0, 1)), "alone, at once");
        let others: Vec<(u32, usize)> = others.await.unwrap().into_iter().map(Option::unwrap).collect();
        assert!(others.iter().map(|(item, _)| *item).eq(1..=250), "each has its own");
        let in_company_of = |count| others.iter().filter(|(_, company)| *company == count).count();
        assert_eq!((in_company_of(100), in_company_of(50)), (200, 50));
    }

    #[tokio::test]
    async fn where_many_come_together_those_that_come_a_moment_later_are_taken_along_but_no_more_than_may_be() {
        let sizes = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let group = Group::new(24, 1, move |items: Vec<u32>| {
            seen.lock().unwrap().push(items.len());
            async move { items }
        });
        let ask = |count: usize| join_all((0..count).map(|_| group.ask(7)));
        let groups = async |first: usize, then: usize| {
            sizes.lock().unwrap().clear();
            tokio::join!(ask(first), async {
                // The group has taken the first by then.
                tokio::task::yield_now().await;
                ask(then).await
            });
            sizes.lock().unwrap().clone()
        };
        for (first, then, expected) in [(16, 3, vec![19]), (20, 8, vec![24, 4]), (15, 3, vec![15, 3])] {
            // A machine that stands still for a moment lets it pass.
            let mut tries = 0..100;
            while groups(first, then).await != expected {
                assert!(tries.next().is_some(), "{first} and {then} are never {expected:?}");
            }
        }
    }

    #[tokio::test]
    async fn work_that_panics_answers_nobody_and_takes_no_place_for_ever() {
        let group = Group::new(1, 1, |items: Vec<u32>| async move {
            assert_ne!(items[0], 13, "as asked");
            items
        });
        assert_eq!(group.ask(13).await, None);
        assert_eq!(group.ask(14).await, Some(14));
    }
}
