//! Hand-written programs: each shape of control flow and of wiring once.

use super::{exceptions, program::Sources};

pub fn all() -> Vec<(&'static str, Sources)> {
    let mut all: Vec<(&str, Sources)> =
        SINGLE.iter().chain(exceptions::SINGLE).map(|(name, text)| (*name, sources(&[("main", text)]))).collect();
    all.extend(SEVERAL.iter().chain(exceptions::SEVERAL).map(|(name, modules)| (*name, sources(modules))));
    all.push(("a function with more sites than fit on a page", sources(&[("main", &many_sites())])));
    all
}

pub fn sources(modules: &[(&str, &str)]) -> Sources {
    let parse = |text: &str| wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    Sources { modules: modules.iter().map(|(name, text)| ((*name).to_owned(), parse(text))).collect() }
}

/// More than 4,096 sites, of which each run reaches three or so.
fn many_sites() -> String {
    let calls: String = (0..4_100)
        .map(|number| {
            format!(
                "(if (i32.eq (i32.rem_u (i32.add (local.get $n) (i32.const {number})) (i32.const 1300)) (i32.const 0)) \
                 (then (local.set $sum (i32.add (local.get $sum) (call $s (i32.const {number}))))))"
            )
        })
        .collect();
    format!(
        r#"(module (import "h" "s1" (func $s (param i32) (result i32)))
          (func (export "f") (param $n i32) (result i32) (local $sum i32) {calls} (local.get $sum)))"#
    )
}

const SINGLE: &[(&str, &str)] = &[
    (
        "functions kept warm: nested, through a table, with a wait of the other kind beside them",
        r#"(module (import "h" "s1" (func $timers (param i32) (result i32))) (import "h" "s0" (func $always)) (memory (export "m") 1)
          (type $t (func (param i32) (result i32))) (table 1 funcref) (elem (i32.const 0) $through)
          (func $through (type $t) (i32.add (call $timers (local.get 0)) (i32.const 5)))
          (func $inner (@name "write") (param i32) (result i32)
            (i32.add (call $timers (local.get 0)) (call_indirect (type $t) (i32.const 3) (i32.const 0))))
          (func $outer (@name "__wasilibc_write") (param i32) (result i32)
            (i32.add (i32.mul (call $inner (local.get 0)) (i32.const 3)) (call $timers (i32.const 1))))
          (func $both (@name "read") (param i32) (result i32) (call $always) (call $timers (local.get 0)))
          (func (export "f") (param i32) (result i32) (local $a i32)
            (local.set $a (call $timers (i32.const 4)))
            (local.set $a (i32.xor (local.get $a) (call $outer (local.get 0))))
            (call $always)
            (i32.store (i32.const 8) (call $both (local.get $a)))
            (i32.add (local.get $a) (call $through (i32.const 9)))))"#,
    ),
    (
        "operands below a call",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32)))
          (func (export "f") (param i32) (result i32)
            (i32.sub
              (i32.shl (local.get 0) (i32.const 2))
              (i32.mul (call $s (i32.const 7)) (i32.or (call $s (i32.const 8)) (call $s (call $s (local.get 0))))))))"#,
    ),
    (
        "recursion seven frames deep",
        r#"(module (import "h" "s0" (func $s)) (memory (export "m") 1)
          (func $down (export "f") (param $n i32) (result i64) (local $a i64)
            (local.set $a (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 11))))
            (if (i32.gt_u (i32.and (local.get $n) (i32.const 7)) (i32.const 0))
              (then
                (local.set $a (i64.add (local.get $a)
                  (call $down (i32.sub (i32.and (local.get $n) (i32.const 7)) (i32.const 1)))))
                (i64.store (i32.shl (i32.and (local.get $n) (i32.const 7)) (i32.const 3)) (local.get $a))
                (call $s)))
            (call $s)
            (local.get $a))
          (func (export "g") (result i64) (i64.mul (call $down (i32.const 7)) (call $down (i32.const 3)))))"#,
    ),
    (
        "nested loops, values of blocks, br_if with values",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (memory (export "m") 1)
          (global $g (export "g") (mut i64) (i64.const 3))
          (func (export "f") (result i64 i32) (local $i i32) (local $j i32) (local $sum i64)
            (local.set $i (i32.const 3))
            (local.set $sum
              (block $done (result i64)
                (i64.const 1000)
                (loop $outer (param i64) (result i64)
                  (i64.add (i64.const 7))
                  (local.set $j (i32.const 2))
                  (block $found (result i32)
                    (loop $inner
                      (i32.store8 (i32.add (local.get $i) (local.get $j)) (call $s (i32.mul (local.get $i) (local.get $j))))
                      (global.set $g (i64.mul (global.get $g) (i64.extend_i32_s (call $s (local.get $j)))))
                      (drop (br_if $found (i32.const 55) (i32.eq (local.get $j) (i32.const 0))))
                      (br_if $inner (i32.ge_s (local.tee $j (i32.sub (local.get $j) (i32.const 1))) (i32.const 0))))
                    (call $s (i32.const 2)))
                  (i64.extend_i32_s)
                  (i64.xor)
                  (br_if $done (i32.gt_u (call $s (local.get $i)) (i32.const 100000)))
                  (br_if $outer (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))
            (local.get $sum) (local.get $i)))"#,
    ),
    (
        "if with parameters, with and without else",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s6" (func $t (param i32 i32) (result f32)))
          (func (export "f") (param i32) (result i32)
            (i32.const 21) (local.get 0) (call $s)
            (if (param i32) (result i32) (then (i32.const 4) (call $s) (i32.add)))
            (i32.const 5) (local.get 0) (call $s)
            (if (param i32 i32) (result i32) (then (i32.mul) (call $s)) (else (call $s) (i32.sub)))
            (drop (call $t (i32.const 1) (i32.const 2)))))"#,
    ),
    (
        "branch tables with all, some and no targets around sites",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32)))
          (func (export "values") (param i32) (result i32)
            (block $c (result i32)
              (block $b (result i32)
                (block $a (result i32) (i32.const 31) (br_table $a $b $c (i32.and (call $s (local.get 0)) (i32.const 3))))
                (call $s) (i32.const 1) (i32.add))
              (i32.const 2) (i32.mul))
            (call $s))
          (func (export "loop") (result i32) (local $i i32) (local $sum i32)
            (loop $again
              (block $x (block $y
                (br_table $x $y $again (i32.and (call $s (local.tee $i (i32.add (local.get $i) (i32.const 1)))) (i32.const 1))))
                (local.set $sum (i32.add (local.get $sum) (call $s (i32.const 6)))))
              (br_if $again (i32.lt_u (local.get $i) (i32.const 9))))
            (local.get $sum))
          (func (export "mixed") (param i32) (result i32)
            (call $s
              (block $split (result i32)
                (drop (call $s (i32.const 2)))
                (i32.add (i32.const 1)
                  (block $copied (result i32) (br_table $copied $split $copied (i32.const 8) (local.get 0))))))))"#,
    ),
    (
        "calls through a table, also of itself, and a trap",
        r#"(module (type $t (func (param i32 i64) (result i64)))
          (import "h" "s2" (func $s (param i64 f64) (result f64))) (import "h" "s4" (func $u (param f32 i32 i64)))
          (table 5 funcref) (elem (i32.const 0) $ask $self $never) (memory 1)
          (func $ask (type $t) (i64.trunc_sat_f64_s (call $s (local.get 1) (f64.const 0.5))))
          (func $self (type $t)
            (call $u (f32.const 1.25) (local.get 0) (local.get 1))
            (if (result i64) (i32.eqz (local.get 0))
              (then (local.get 1))
              (else (i64.add (local.get 1)
                (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i64.const 4) (i32.and (local.get 0) (i32.const 1)))))))
          (func $never (type $t) (i64.const 6))
          (func (export "f") (param i32) (result i64)
            (i64.xor
              (call_indirect (type $t) (i32.const 5) (i64.const 3) (i32.const 1))
              (call_indirect (type $t) (local.get 0) (i64.const 2) (i32.const 2))))
          (func (export "trap") (result i64)
            (drop (call $ask (i32.const 1) (i64.const 2)))
            (call_indirect (type $t) (i32.const 5) (i64.const 3) (i32.const 4))))"#,
    ),
    (
        "sites around, in and after unreachable code",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s0" (func $w))
          (func (export "f") (param i32) (result i32)
            (block $b (result i32)
              (call $w) (br $b (call $s (i32.const 3)))
              (call $s) (block (param i32) (result i32) (call $s)) (loop (call $w) (br 0)))
            (if (result i32)
              (then (call $w) (return (call $s (i32.const 1))) (i32.mul) (drop) (i64.const 1) (drop))
              (else (call $w) (i32.const 5)))
            (block (call $w) (unreachable))
            (call $s)))"#,
    ),
    (
        "vectors in locals and as operands",
        r#"(module (import "h" "s5" (func $s (param v128) (result v128)))
          (func (export "f") (result v128) (local v128)
            (local.set 0 (v128.const i64x2 5 6))
            (v128.const i32x4 9 8 7 6) (call $s (local.get 0)) (i32x4.sub) (call $s (local.get 0)) (v128.or)
            (local.get 0) (i16x8.add)))"#,
    ),
    (
        "several results of functions and loops",
        r#"(module (import "h" "s3" (func $t (result i64))) (import "h" "s1" (func $s (param i32) (result i32)))
          (func $many (param i32) (result i32 f64 i64) (call $s (local.get 0)) (f64.const 2.5) (call $t))
          (func (export "f") (result i64 i32 f64) (local i32 f64 i64)
            (i32.const 4) (i64.const 9)
            (loop $again (param i32 i64) (result i32 i64)
              (local.set 2) (call $s) (local.get 2) (call $t) (i64.add)
              (br_if $again (i32.eq (call $s (local.get 0)) (i32.const 1))))
            (local.set 2) (call $many) (local.set 2) (local.set 1) (local.set 0)
            (local.get 2) (local.get 0) (local.get 1)))"#,
    ),
    (
        "tail calls, direct and through a table",
        r#"(module (type $t (func (param i32 i32) (result i32))) (import "h" "s1" (func $s (param i32) (result i32)))
          (table 2 funcref) (elem (i32.const 0) $count $last)
          (func $count (export "count") (type $t)
            (drop (call $s (local.get 0)))
            (if (i32.eqz (i32.and (local.get 0) (i32.const 7))) (then (return_call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 1))))
            (return_call $count (i32.sub (i32.and (local.get 0) (i32.const 7)) (i32.const 1)) (i32.add (local.get 1) (i32.const 3))))
          (func $last (type $t) (return_call $s (local.get 1)))
          (func (export "f") (result i32) (i32.add (call $count (i32.const 5) (i32.const 1)) (call $s (i32.const 2)))))"#,
    ),
    (
        "results through a return pointer",
        r#"(module (import "h" "p0" (func $p (param i32 i32))) (memory (export "m") 1)
          (func (export "f") (param i32) (result i64)
            (call $p (i32.const 5) (i32.const 16)) (call $p (local.get 0) (i32.const 24))
            (i64.add (i64.load (i32.const 16)) (i64.load (i32.const 24)))))"#,
    ),
    (
        "references, memories and globals that never suspend beside those that do",
        r#"(module (import "h" "n0" (func $n (param i32) (result i32))) (import "h" "s1" (func $s (param i32) (result i32)))
          (memory $a (export "a") 1) (memory $b (export "b") 1 3) (data $d "abcdefgh")
          (global $c i32 (i32.const 5)) (global $v (mut i32) (i32.const 1)) (global $f funcref (ref.func $quiet))
          (table $x 3 funcref) (table $y 2 externref) (elem (table $x) (i32.const 1) func $quiet)
          (func $quiet (param i32) (result i32) (global.set $v (i32.add (global.get $v) (global.get $c))) (call $n (local.get 0)))
          (func (export "f") (param i32) (result i32)
            (memory.init $b $d (i32.const 3) (i32.const 1) (i32.const 5))
            (drop (memory.grow $b (i32.const 1)))
            (i32.store8 $a (i32.const 9) (call_indirect $x (param i32) (result i32) (local.get 0) (i32.const 1)))
            (drop (ref.is_null (global.get $f)))
            (memory.copy $a $b (i32.const 100) (i32.const 0) (i32.const 50))
            (i32.add (ref.is_null (table.get $y (i32.const 1)))
              (i32.add (call $s (table.size $x)) (i32.add (memory.size $b) (global.get $v)))))
          (func $start (global.set $v (i32.const 40))) (start $start))"#,
    ),
    (
        "segments that are dropped: before, between and after waits, in functions that wait and in others",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s0" (func $w)) (memory (export "m") 1)
          (data $early "abcd") (data $late "efgh") (data $kept "ijkl") (data $active (i32.const 64) "mnop")
          (elem $passive func $quiet) (elem $declared declare func $s) (global $g (mut i32) (i32.const 3))
          (func $start (memory.init $early (i32.const 32) (i32.const 0) (i32.const 4)) (data.drop $active)) (start $start)
          (func $quiet (data.drop $early) (elem.drop $declared) (global.set $g (i32.const 8)))
          (func $steps (param $length i32) (result i32)
            (call $w)
            (memory.init $early (i32.const 0) (i32.const 1) (i32.const 2))
            (call $quiet) (call $w)
            (memory.init $late (i32.const 8) (i32.const 0) (i32.const 4))
            (data.drop $late) (elem.drop $passive) (data.drop $late)
            (i32.const 5) (call $s (i32.const 1))
            (memory.init $early (i32.const 9) (i32.const 0) (i32.const 0))
            (memory.init $kept (i32.const 16) (i32.const 1) (i32.const 3))
            (memory.init $late (i32.const 0) (i32.const 0) (local.get $length))
            (call $w) (i32.add) (i32.add (global.get $g)))
          (func (export "ends") (result i32) (call $steps (i32.const 0)))
          (func (export "traps") (result i32) (call $steps (i32.const 1)))
          (func (export "traps early") (call $quiet) (call $w) (memory.init $early (i32.const 0) (i32.const 3) (i32.const 1))))"#,
    ),
];

const SEVERAL: &[(&str, &[(&str, &str)])] = &[
    (
        "a segment that is dropped by a module that never waits",
        &[
            (
                "quiet",
                r#"(module (memory (export "m") 1) (data $d "abcd")
                  (func (export "fill") (param i32) (memory.init $d (local.get 0) (i32.const 0) (i32.const 4)))
                  (func (export "drop") (data.drop $d)))"#,
            ),
            (
                "main",
                r#"(module (import "quiet" "fill" (func $fill (param i32))) (import "quiet" "drop" (func $drop)) (import "h" "s0" (func $w))
                  (func (export "f") (call $fill (i32.const 4)) (call $w) (call $drop) (call $w) (call $fill (i32.const 8))))"#,
            ),
        ],
    ),
    (
        "a shim whose table is filled after the main module",
        &[
            (
                "shim",
                r#"(module (type $t (func (param i32) (result i32))) (table (export "$imports") 3 3 funcref)
                  (func (export "0") (type $t) (call_indirect (type $t) (local.get 0) (i32.const 0)))
                  (func (export "1") (type $t) (call_indirect (type $t) (local.get 0) (i32.const 1)))
                  (func (export "2") (type $t) (call_indirect (type $t) (local.get 0) (i32.const 2))))"#,
            ),
            (
                "guest",
                r#"(module (import "shim" "0" (func $wait (param i32) (result i32))) (import "shim" "1" (func $ask (param i32) (result i32)))
                  (memory (export "memory") 2)
                  (func (export "go") (param i32) (result i32) (local i32)
                    (local.set 1 (call $ask (local.get 0)))
                    (i32.store (i32.const 8) (i32.add (call $wait (local.get 1)) (local.get 1)))
                    (i32.add (i32.load (i32.const 8)) (call $ask (call $wait (i32.const 1))))))"#,
            ),
            (
                "fixups",
                r#"(module (import "shim" "$imports" (table 3 3 funcref)) (import "h" "s1" (func $s (param i32) (result i32)))
                  (import "h" "n0" (func $n (param i32) (result i32))) (import "guest" "go" (func $go (param i32) (result i32)))
                  (elem (i32.const 0) func $s $n) (elem (i32.const 2) func $n) (export "go" (func $go)))"#,
            ),
        ],
    ),
    (
        "an adapter between two modules, with a shared memory import and a shared global",
        &[
            (
                "memory",
                r#"(module (memory (export "m") 1) (global (export "top") (mut i32) (i32.const 1024)) (global $own (mut i64) (i64.const 1))
                  (func (export "tick") (result i64) (global.set $own (i64.add (global.get $own) (i64.const 1))) (global.get $own)))"#,
            ),
            (
                "adapter",
                r#"(module (import "memory" "m" (memory 1)) (import "memory" "top" (global $top (mut i32)))
                  (import "h" "s6" (func $s (param i32 i32) (result f32))) (import "h" "p0" (func $p (param i32 i32)))
                  (func (export "sleep") (param i32) (result f32) (local $frame i32)
                    (global.set $top (local.tee $frame (i32.sub (global.get $top) (i32.const 16))))
                    (i32.store (local.get $frame) (local.get 0))
                    (call $p (local.get 0) (i32.add (local.get $frame) (i32.const 8)))
                    (call $s (i32.load (local.get $frame)) (i32.load (i32.add (local.get $frame) (i32.const 8))))
                    (global.set $top (i32.add (local.get $frame) (i32.const 16)))))"#,
            ),
            (
                "guest",
                r#"(module (import "adapter" "sleep" (func $sleep (param i32) (result f32))) (import "memory" "tick" (func $tick (result i64)))
                  (import "memory" "m" (memory 1)) (import "memory" "top" (global $top (mut i32)))
                  (func (export "run") (param i32) (result i64 f32) (local $i i32) (local $sum f32)
                    (local.set $i (i32.const 3))
                    (loop $again
                      (local.set $sum (f32.add (local.get $sum) (call $sleep (i32.add (local.get 0) (local.get $i)))))
                      (drop (call $tick))
                      (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
                    (i64.add (call $tick) (i64.extend_i32_u (global.get $top))) (local.get $sum)))"#,
            ),
        ],
    ),
    (
        "modules that call each other through a table they share",
        &[
            (
                "env",
                r#"(module (memory (export "memory") 1) (table (export "table") 8 funcref) (global (export "base") i32 (i32.const 3)))"#,
            ),
            (
                "library",
                r#"(module (type $t (func (param i32) (result i32))) (import "env" "table" (table 8 funcref)) (import "env" "base" (global $base i32))
                  (import "h" "s1" (func $s (param i32) (result i32)))
                  (func $inner (type $t) (i32.add (local.get 0) (call $s (local.get 0))))
                  (func (export "through") (param i32 i32) (result i32)
                    (i32.sub (call_indirect (type $t) (local.get 0) (local.get 1)) (call $s (i32.const 4))))
                  (elem (global.get $base) func $inner))"#,
            ),
            (
                "main",
                r#"(module (type $t (func (param i32) (result i32))) (import "env" "table" (table 8 funcref))
                  (import "library" "through" (func $through (param i32 i32) (result i32)))
                  (func $back (type $t) (call_indirect (type $t) (i32.add (local.get 0) (i32.const 1)) (i32.const 3)))
                  (elem (i32.const 0) func $back)
                  (func (export "f") (param i32) (result i32)
                    (i32.mul (call $through (local.get 0) (i32.const 0)) (call $through (local.get 0) (i32.const 3)))))"#,
            ),
        ],
    ),
];
