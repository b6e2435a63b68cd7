//! `dormouse:task/trigger`: starting other runs.

use super::{
    options,
    wit::{
        trigger::{self, Intent},
        types::{self, Idempotency, TriggerOptions},
    },
};
use crate::{
    host::{HostError, HostState},
    model::child,
};

impl trigger::Host for HostState {
    async fn trigger(
        &mut self,
        task: String,
        payload: types::Packet,
        options: TriggerOptions,
        intent: Intent,
    ) -> Result<trigger::RunHandle, HostError> {
        let caller = self.acting()?.caller.clone();
        let triggered = caller.trigger(options::run(task, payload, options)?, meant(intent)).await?;
        let id = triggered.id.to_string();
        let scopes = vec![format!("read:runs:{id}"), format!("write:inputStreams:{id}")];
        let public_access_token = caller.access_token(scopes).await?;
        Ok(trigger::RunHandle { id, is_cached: triggered.is_cached, public_access_token })
    }

    async fn batch_trigger(
        &mut self,
        items: Vec<types::BatchItem>,
        idempotency: Option<Idempotency>,
        intent: Intent,
    ) -> Result<trigger::BatchHandle, HostError> {
        let caller = self.acting()?.caller.clone();
        let (items, idempotency) = (options::items(items)?, options::idempotency(idempotency)?);
        let triggered = caller.batch_trigger(items, idempotency, meant(intent)).await?;
        let id = triggered.id.to_string();
        let public_access_token = caller.access_token(vec![format!("read:batch:{id}")]).await?;
        Ok(trigger::BatchHandle { id, run_count: triggered.run_count, is_cached: triggered.is_cached, public_access_token })
    }
}

fn meant(intent: Intent) -> child::Intent {
    match intent {
        Intent::Forget => child::Intent::Forget,
        Intent::Wait => child::Intent::Wait,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::{
        Begin, HostErrorCode,
        task::options::tests::none,
        testing::{Asked, Recorder, state},
    };

    #[tokio::test]
    async fn runs_and_batches_come_with_a_token_that_reads_them() {
        let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
        let mut state = state(Begin::Fresh, scratch.path(), caller.clone());
        let packet = || types::Packet { data: b"1".to_vec(), content_type: "application/json".into() };
        let run = trigger::Host::trigger(&mut state, "a".into(), packet(), none(), Intent::Forget).await.unwrap();
        assert_eq!(run.public_access_token, format!("read:runs:{0} write:inputStreams:{0}", run.id));
        let item = |task: &str| types::BatchItem { task: task.into(), payload: packet(), options: none() };
        let items = vec![item("b"), item("c")];
        let batch = trigger::Host::batch_trigger(&mut state, items, None, Intent::Wait).await.unwrap();
        assert_eq!((batch.run_count, batch.is_cached), (2, true));
        assert_eq!(batch.public_access_token, format!("read:batch:{}", batch.id));
        let asked =
            [Asked::Trigger("a".into(), child::Intent::Forget), Asked::Batch(vec!["b".into(), "c".into()], child::Intent::Wait)];
        assert_eq!(caller.asked(), asked);
        let long = types::Idempotency { key: "k".repeat(2049), ttl_ms: None, user_key: None, scope: None };
        let refused = trigger::Host::batch_trigger(&mut state, vec![item("b")], Some(long), Intent::Wait).await.unwrap_err();
        assert_eq!(refused.code, HostErrorCode::Invalid);
        assert_eq!(caller.asked().len(), 2, "nothing was asked for what was refused");
    }
}
