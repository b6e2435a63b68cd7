//! Core modules that are small or ordinary to look at, and too much for whoever is careless with them.

use std::borrow::Cow;

use wasm_encoder::{
    BlockType, ConstExpr, Elements, EntityType, ExportKind, GlobalType, HeapType, MemoryType, RefType, TableType, ValType,
};

use super::module::{FIRST, FIRST_TYPE, Main, NOTHING, WAIT, around, around_with, at};

pub const ALL: &[super::Case] = &[
    ("blocks nested a million deep", nested_blocks),
    ("loops nested three thousand deep around calls", nested_loops),
    ("a hundred thousand functions that wait", many_functions),
    ("a branch table with a million targets", giant_branch_table),
    ("branch tables that lead everywhere, among many locals", branch_tables_and_locals),
    ("as many locals as are allowed in each of fifty thousand functions", locals_everywhere),
    ("too many locals in each of fifty thousand functions", too_many_locals),
    ("nine hundred locals live at thousands of calls", live_locals),
    ("nine hundred operands below thousands of calls", deep_operands),
    ("blocks that take and give a thousand values", wide_blocks),
    ("calls with a thousand arguments", wide_calls),
    ("functions whose liveness takes many sweeps", slow_liveness),
    ("three hundred thousand imports of a wide type", wide_imports),
    ("sixteen thousand wide types", wide_types),
    ("three million elements", many_elements),
    ("element segments of unknown content beside many types", unknown_elements),
    ("a million names", many_names),
    ("three hundred thousand exports", many_exports),
    ("a hundred thousand data segments", many_segments),
    ("fifteen thousand data segments that are dropped everywhere", dropped_segments),
    ("a hundred thousand data segments that are dropped", too_many_dropped_segments),
    ("a data segment of sixteen megabytes", large_segment),
    ("a hundred memories", many_memories),
    ("a hundred tables", many_tables),
    ("a million mutable globals", many_globals),
    ("numbers longer than they need to be", long_numbers),
    ("a function that outgrows what a function may have", large_function),
    ("a call for every three bytes", dense_calls),
];

const I32: ValType = ValType::I32;

fn wait(main: &mut Main, before: impl FnOnce(&mut wasm_encoder::InstructionSink<'_>)) {
    main.function(&[], |code| {
        before(code);
        code.i32_const(1).call(WAIT);
    });
}

fn nested_blocks() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[], |code| {
        for _ in 0..1_000_000 {
            code.block(BlockType::Empty);
        }
        code.i32_const(1).call(WAIT);
        for _ in 0..1_000_000 {
            code.end();
        }
    });
    main.component()
}

fn nested_loops() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[], |code| {
        for _ in 0..3_000 {
            code.loop_(BlockType::Empty).i32_const(1).call(WAIT);
        }
        for _ in 0..3_000 {
            code.i32_const(0).br_if(0).end();
        }
    });
    main.component()
}

fn many_functions() -> Vec<u8> {
    let mut main = Main::new();
    for next in FIRST + 1..FIRST + 100_000 {
        wait(&mut main, |code| {
            code.call(next);
        });
    }
    wait(&mut main, |_| {});
    main.component()
}

fn giant_branch_table() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[], |code| {
        for _ in 0..1_000 {
            code.block(BlockType::Empty);
        }
        code.i32_const(1).br_table((0..1_000_000).map(|target| target % 1_000), 0);
        for _ in 0..1_000 {
            code.end().i32_const(1).call(WAIT);
        }
    });
    main.component()
}

fn branch_tables_and_locals() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[(19_000, I32)], |code| {
        for _ in 0..5_000 {
            code.block(BlockType::Empty);
        }
        for _ in 0..700 {
            code.block(BlockType::Empty).i32_const(1).br_table(1..5_000, 0).end();
        }
        code.i32_const(1).call(WAIT).local_get(18_000).drop();
        for local in 0..5_000 {
            code.end().local_get(local).drop();
        }
    });
    main.component()
}

fn locals_everywhere() -> Vec<u8> {
    let mut main = Main::new();
    for _ in 0..50_000 {
        main.function(&[(20_000, I32)], |code| {
            code.i32_const(1).call(WAIT).local_get(19_999).drop();
        });
    }
    main.component()
}

fn too_many_locals() -> Vec<u8> {
    let mut main = Main::new();
    for index in 0..50_000 {
        main.function(&[(20_001, I32)], |_| {});
        main.names.append(FIRST + index, &format!("{index:0>60}"));
    }
    main.component()
}

fn live_locals() -> Vec<u8> {
    let mut main = Main::new();
    for _ in 0..20 {
        main.function(&[(890, I32)], |code| {
            for _ in 0..9_000 {
                code.i32_const(1).call(WAIT);
            }
            for local in 0..890 {
                code.local_get(local).drop();
            }
        });
    }
    main.component()
}

fn deep_operands() -> Vec<u8> {
    let mut main = Main::new();
    for _ in 0..20 {
        main.function(&[], |code| {
            for operand in 0..890 {
                code.i32_const(operand);
            }
            for _ in 0..9_000 {
                code.i32_const(1).call(WAIT);
            }
            for _ in 0..890 {
                code.drop();
            }
        });
    }
    main.component()
}

fn wide_blocks() -> Vec<u8> {
    let mut main = Main::new();
    main.types.ty().function([I32; 800], [I32; 800]);
    for _ in 0..4 {
        main.function(&[], |code| {
            for operand in 0..800 {
                code.i32_const(operand);
            }
            for _ in 0..200_000 {
                code.block(BlockType::FunctionType(FIRST_TYPE)).end();
            }
            code.i32_const(1).call(WAIT);
            for _ in 0..800 {
                code.drop();
            }
        });
    }
    main.component()
}

fn wide_calls() -> Vec<u8> {
    let mut main = Main::new();
    main.types.ty().function([I32; 1_000], [I32; 1_000]);
    for _ in 0..20 {
        main.function(&[], |code| {
            for operand in 0..1_000 {
                code.i32_const(operand);
            }
            for _ in 0..50_000 {
                code.call(FIRST + 20);
            }
            for _ in 0..1_000 {
                code.drop();
            }
        });
    }
    let mut wide = wasm_encoder::Function::new([]);
    wide.instructions().i32_const(1).call(WAIT);
    for local in 0..1_000 {
        wide.instructions().local_get(local);
    }
    wide.instructions().end();
    main.functions.function(FIRST_TYPE);
    main.code.function(&wide);
    main.component()
}

/// Each loop hands what is live on to the one before it, against the order in which they are looked at.
fn slow_liveness() -> Vec<u8> {
    let mut main = Main::new();
    for _ in 0..60 {
        main.function(&[(20_000, I32)], |code| {
            for _ in 0..800 {
                code.block(BlockType::Empty).loop_(BlockType::Empty);
            }
            code.i32_const(1).call(WAIT);
            for local in 0..800 {
                code.local_get(local).br_if(1).end().end();
            }
        });
    }
    main.component()
}

fn wide_imports() -> Vec<u8> {
    let mut main = Main::new();
    main.types.ty().function([I32; 1_000], []);
    for _ in 0..300_000 {
        main.imports.import("", "", EntityType::Function(FIRST_TYPE));
    }
    around(&main.bytes())
}

fn wide_types() -> Vec<u8> {
    let mut main = Main::new();
    for index in 0..16_000_u32 {
        // No two are the same.
        let types = (0..1_000).map(|bit| if bit < 32 && index >> bit & 1 == 1 { ValType::I64 } else { I32 });
        main.types.ty().function(types, []);
    }
    wait(&mut main, |_| {});
    main.component()
}

fn many_elements() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    main.tables.table(TableType {
        element_type: RefType::FUNCREF,
        minimum: 2_000_000,
        maximum: None,
        table64: false,
        shared: false,
    });
    let functions = vec![FIRST; 1_500_000];
    for offset in [0, 1] {
        main.elements.active(Some(0), &at(offset), Elements::Functions(Cow::Borrowed(&functions)));
    }
    main.component()
}

fn unknown_elements() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    for ty in 0..40_000_u32 {
        let types = (0..17).map(|bit| if ty >> bit & 1 == 1 { ValType::I64 } else { I32 });
        main.types.ty().function(types, []);
    }
    let constant = GlobalType { val_type: ValType::FUNCREF, mutable: false, shared: false };
    main.imports.import("h", "unknown", EntityType::Global(constant));
    main.tables.table(TableType { element_type: RefType::FUNCREF, minimum: 1, maximum: None, table64: false, shared: false });
    let items = [ConstExpr::global_get(0)];
    for _ in 0..50_000 {
        main.elements.active(Some(0), &at(0), Elements::Expressions(RefType::FUNCREF, Cow::Borrowed(&items)));
    }
    around_with(&main.bytes(), |text| {
        let text = text.replace(
            "(table (export \"table\")",
            "(global (export \"unknown\") funcref (ref.null func)) (table (export \"table\")",
        );
        let alias = "(alias core export $shared \"unknown\" (core global $unknown)) (alias core export $shared \"table\"";
        let text = text.replace("(alias core export $shared \"table\"", alias);
        text.replace(
            "(export \"global\" (global $global))",
            "(export \"global\" (global $global)) (export \"unknown\" (global $unknown))",
        )
    })
}

fn many_names() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    for index in 0..1_000_000 {
        main.names.append(index, "");
    }
    main.component()
}

fn many_exports() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    for index in 0..300_000 {
        main.exports.export(&format!("{index:x}"), ExportKind::Func, FIRST);
    }
    main.component()
}

fn many_segments() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    main.memories.memory(memory());
    for _ in 0..100_000 {
        main.data.active(0, &at(0), [1]);
    }
    main.component()
}

fn dropped_segments() -> Vec<u8> {
    dropping(15_000, 40)
}

fn too_many_dropped_segments() -> Vec<u8> {
    dropping(100_000, 1)
}

fn dropping(segments: u32, functions: u32) -> Vec<u8> {
    let mut main = Main::new();
    for _ in 0..segments {
        main.data.passive([1]);
    }
    for _ in 0..functions {
        wait(&mut main, |code| {
            for segment in 0..segments {
                code.data_drop(segment);
            }
        });
    }
    main.component()
}

fn large_segment() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    main.memories.memory(memory());
    main.data.active(0, &at(0), std::iter::repeat_n(7, 16 << 20));
    main.component()
}

fn memory() -> MemoryType {
    MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None }
}

fn many_memories() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    for _ in 0..100 {
        main.memories.memory(memory());
    }
    main.component()
}

fn many_tables() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    let element_type = RefType { nullable: true, heap_type: HeapType::FUNC };
    for _ in 0..100 {
        main.tables.table(TableType { element_type, minimum: 1, maximum: None, table64: false, shared: false });
    }
    main.component()
}

fn many_globals() -> Vec<u8> {
    let mut main = Main::new();
    wait(&mut main, |_| {});
    for _ in 0..900_000 {
        main.globals.global(GlobalType { val_type: I32, mutable: true, shared: false }, &at(0));
    }
    main.component()
}

fn long_numbers() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[(1, I32)], |_| {});
    for _ in 0..5 {
        let mut body = vec![0];
        for _ in 0..100_000 {
            body.extend([0x41, 0x80, 0x80, 0x80, 0x80, 0x00, 0x10, 0x80, 0x80, 0x80, 0x80, 0x00]);
        }
        body.push(0x0b);
        main.functions.function(NOTHING);
        main.code.raw(&body);
    }
    main.component()
}

fn large_function() -> Vec<u8> {
    let mut main = Main::new();
    main.function(&[(30, I32)], |code| {
        for round in 0..99_000 {
            code.i32_const(1).call(WAIT).local_get(round % 30).i32_const(123_456_789).i32_const(123_456_789).drop().drop().drop();
        }
        for local in 0..30 {
            code.local_get(local).drop();
        }
    });
    main.component()
}

fn dense_calls() -> Vec<u8> {
    let mut main = Main::new();
    for _ in 0..15 {
        main.function(&[(1, I32)], |code| {
            for _ in 0..99_000 {
                code.call(FIRST + 15);
            }
        });
    }
    wait(&mut main, |_| {});
    main.component()
}
