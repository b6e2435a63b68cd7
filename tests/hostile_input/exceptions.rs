//! Core modules with too many handlers of exceptions.

use wasm_encoder::{BlockType, Catch, TagKind, TagType, ValType};

use super::module::{FIRST, FIRST_TYPE, Main, NOTHING, WAIT};

pub const ALL: &[super::Case] = &[
    ("try_tables nested ten thousand deep, each with a target of its own", nested_tries),
    ("ten thousand calls in a thousand try_tables", calls_in_nested_tries),
    ("clauses that lead everywhere, among many locals", clauses_and_locals),
    ("a million clauses that take a thousand values", wide_clauses),
    ("a million tags of a wide type", many_tags),
    ("three hundred thousand tail calls in a try_table", tail_calls),
    ("nine hundred thousand tags that are thrown, beside nine hundred modules", thrown_tags),
    ("three thousand calls that never wait in a thousand try_tables", calls_of_a_function_that_never_waits),
    ("waits in five hundred try_tables", waits_in_tries),
];

fn tag(main: &mut Main, ty: u32) {
    main.tags.tag(TagType { kind: TagKind::Exception, func_type_idx: ty });
}

/// Blocks, each with a `try_table` whose only clause leads to it; calls within them all.
fn tries(depth: u32, calls: u32, locals: u32) -> Vec<u8> {
    let mut main = Main::new();
    tag(&mut main, NOTHING);
    main.function(&[(locals, ValType::I32)], |code| {
        for _ in 0..depth {
            code.block(BlockType::Empty).try_table(BlockType::Empty, [Catch::One { tag: 0, label: 0 }]);
        }
        for local in 0..calls {
            code.i32_const(1).call(WAIT);
            if locals > 0 {
                code.local_get(local % locals).drop();
            }
        }
        code.throw(0);
        for _ in 0..2 * depth {
            code.end();
        }
    });
    main.component()
}

fn nested_tries() -> Vec<u8> {
    tries(10_000, 1, 0)
}

fn calls_in_nested_tries() -> Vec<u8> {
    tries(1_000, 10_000, 0)
}

fn clauses_and_locals() -> Vec<u8> {
    tries(200, 5_000, 15_000)
}

fn wide_clauses() -> Vec<u8> {
    let mut main = Main::new();
    main.types.ty().function([ValType::I32; 1_000], []);
    main.types.ty().function([], [ValType::I32; 1_000]);
    tag(&mut main, FIRST_TYPE);
    main.function(&[], |code| {
        code.block(BlockType::FunctionType(FIRST_TYPE + 1));
        for _ in 0..100 {
            code.try_table(BlockType::Empty, vec![Catch::One { tag: 0, label: 0 }; 10_000]).end();
        }
        code.i32_const(1).call(WAIT).unreachable().end();
        for _ in 0..1_000 {
            code.drop();
        }
    });
    main.component()
}

fn many_tags() -> Vec<u8> {
    let mut main = Main::new();
    main.types.ty().function([ValType::V128; 1_000], []);
    (0..900_000).for_each(|_| tag(&mut main, FIRST_TYPE));
    main.function(&[], |code| {
        code.block(BlockType::Empty).try_table(BlockType::Empty, [Catch::All { label: 0 }]);
        code.i32_const(1).call(WAIT).end().end();
    });
    main.component()
}

fn tail_calls() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[], |code| {
        code.i32_const(1).call(WAIT);
        code.block(BlockType::Empty).try_table(BlockType::Empty, [Catch::All { label: 0 }]);
        for _ in 0..300_000 {
            code.i32_const(0).if_(BlockType::Empty).return_call(FIRST).end();
        }
        code.end().end();
    });
    main.component()
}

fn thrown_tags() -> Vec<u8> {
    let mut main = Main::new();
    (0..900_000).for_each(|_| tag(&mut main, NOTHING));
    main.function(&[], |code| {
        (0..900_000).for_each(|number| {
            code.throw(number);
        });
    });
    super::components::beside_modules(main.component(), 900)
}

/// Each call can end in every handler around it, and compiling a function takes as long as the square of these ways.
fn calls_of_a_function_that_never_waits() -> Vec<u8> {
    let mut main = Main::new();
    tag(&mut main, NOTHING);
    main.function(&[], |code| {
        code.i32_const(1).call(WAIT);
    });
    main.function(&[], |code| {
        code.throw(0);
    });
    main.function(&[], |code| {
        for _ in 0..1_000 {
            code.block(BlockType::Empty).try_table(BlockType::Empty, [Catch::One { tag: 0, label: 0 }]);
        }
        for _ in 0..3_000 {
            code.call(FIRST + 1);
        }
        for _ in 0..2_000 {
            code.end();
        }
    });
    main.component()
}

fn waits_in_tries() -> Vec<u8> {
    tries(500, 120, 0)
}
