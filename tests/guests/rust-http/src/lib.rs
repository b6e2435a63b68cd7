//! The guest that the tests send HTTP requests with: `wasi:http` as it is, with handles held over waits.

mod fetch;

dormouse::bundle!(fetch::fetch, fetch::many);
