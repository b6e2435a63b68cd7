//! The tasks that benchmarks trigger: waits and clocks in [`waits`], effects in [`five`], what others follow in [`streams`], pure computation in [`work`].

mod five;
mod interpreter;
mod sha256;
mod streams;
mod waits;
mod work;

dormouse::bundle!(
    waits::noop,
    waits::sleep,
    waits::many,
    waits::large,
    five::five,
    streams::stream,
    streams::status,
    work::fib,
    work::sort,
    work::json,
    work::sha256,
    work::trees,
    work::interpreter,
);
