//! The tasks that benchmarks trigger: waits and clocks in [`waits`], effects in [`five`], pure computation in [`work`].

mod five;
mod interpreter;
mod sha256;
mod waits;
mod work;

dormouse::bundle!(
    waits::noop,
    waits::sleep,
    waits::many,
    waits::large,
    five::five,
    work::fib,
    work::sort,
    work::json,
    work::sha256,
    work::trees,
    work::interpreter,
);
