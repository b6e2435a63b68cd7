//! Hand-written programs that throw and catch.

pub const SINGLE: &[(&str, &str)] = &[
    (
        "waits in a try_table, in what it calls and in its handler",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s0" (func $w)) (tag $t (param i32 i64)) (tag $u)
          (memory (export "m") 1)
          (func $throws (param i32) (result i32) (local $kept i64)
            (local.set $kept (i64.const 77))
            (call $w)
            (if (i32.and (local.get 0) (i32.const 1)) (then (throw $t (call $s (local.get 0)) (local.get $kept))))
            (if (i32.and (local.get 0) (i32.const 2)) (then (call $w) (throw $u)))
            (i32.add (local.get 0) (call $s (i32.const 2))))
          (func $catches (param i32) (result i32) (local $before i32) (local $within i32)
            (local.set $before (call $s (i32.const 3)))
            (i32.const 100)
            (block $done (result i32)
              (block $u
                (block $t (result i32 i64)
                  (local.set $within (i32.const 1))
                  (br $done
                    (try_table (result i32) (catch $t $t) (catch_all $u)
                      (i32.store8 (i32.const 1) (i32.const 1))
                      (drop (call $throws (i32.const 4)))
                      (local.set $within (i32.const 2))
                      (i32.const 1000)
                      (call $throws (local.get 0))
                      (local.set $within (i32.const 3))
                      (i32.add) (i32.add (call $s (i32.const 4))))))
                (i64.eqz) (drop) (call $w)
                (br $done (i32.add (i32.add (local.get $within) (local.get $before)))))
              (call $w)
              (i32.add (local.get $within) (call $s (local.get $before))))
            (i32.sub) (i32.add (call $s (i32.const 5))))
          (func (export "neither") (result i32) (call $catches (i32.const 4)))
          (func (export "one") (result i32) (call $catches (i32.const 1)))
          (func (export "other") (result i32) (call $catches (i32.const 2)))
          (func (export "nobody") (result i32) (call $throws (i32.const 1)))
          (func (export "all") (param i32) (result i32) (local $sum i32) (local $i i32)
            (loop $again
              (local.set $sum (i32.add (local.get $sum) (call $catches (local.get $i))))
              (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))
            (local.get $sum)))"#,
    ),
    (
        "an exception that passes frames without handlers, and some whose handlers do not take it",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s0" (func $w))
          (tag $deep (param i32)) (tag $other (param i32)) (type $f (func (param i32) (result i32)))
          (table 3 funcref) (elem (i32.const 0) $throw $pass $miss) (global $g (mut i32) (i32.const 0))
          (func $throw (type $f) (call $w) (throw $deep (call $s (local.get 0))))
          (func $pass (type $f) (global.set $g (i32.const 4))
            (i32.add (call_indirect (type $f) (local.get 0) (i32.const 0)) (i32.const 5)))
          (func $miss (type $f)
            (block $b (result i32)
              (try_table (result i32) (catch $other $b)
                (drop (call $s (i32.const 9)))
                (call_indirect (type $f) (local.get 0) (i32.const 1)))))
          (func $again (param i32) (result i32)
            (block $b (result i32 exnref)
              (try_table (catch_ref $deep $b) (drop (call_indirect (type $f) (local.get 0) (i32.const 2))))
              (return (i32.const -1)))
            (global.set $g (i32.const 9)) (throw_ref))
          (func (export "f") (param i32) (result i32) (local $x i32)
            (local.set $x (i32.const 10))
            (block $caught (result i32)
              (try_table (catch $other $caught) (catch $deep $caught)
                (drop (call $again (local.get 0)))
                (local.set $x (i32.const 20)))
              (i32.const 1))
            (i32.add (local.get $x)) (i32.add (call $s (global.get $g))))
          (func (export "uncaught") (param i32) (result i32) (call $again (local.get 0))))"#,
    ),
    (
        "a loop that is the target of a handler, and try_tables in each other",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s3" (func $l (result i64)))
          (tag $retry (param i32 i64)) (tag $stop (param f64))
          (func $attempt (param i32) (result i32)
            (if (i32.lt_u (local.get 0) (i32.const 4))
              (then (throw $retry (i32.add (local.get 0) (i32.const 1)) (call $l))))
            (if (i32.eq (local.get 0) (i32.const 5)) (then (throw $stop (f64.const 2.5))))
            (call $s (local.get 0)))
          (func $run (param $n i32) (result i32 f64) (local $last i64) (local $count i32)
            (block $stopped (result f64)
              (local.get $n) (i64.const 3)
              (loop $retry (param i32 i64) (result i32)
                (local.set $last) (local.set $n)
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (i32.const 7) (local.get $n)
                (try_table (param i32) (result i32) (catch $stop $stopped)
                  (try_table (param i32) (result i32) (catch $retry $retry)
                    (call $attempt) (call $s) (call $attempt))
                  (call $s))
                (i32.add))
              (return (i32.add (local.get $count)) (f64.convert_i64_s (local.get $last))))
            (local.set $last (i64.trunc_sat_f64_s))
            (i32.add (local.get $count) (call $s (local.get $n))) (f64.convert_i64_s (local.get $last)))
          (func (export "f") (result i32 f64) (call $run (i32.const 1)))
          (func (export "stops") (result i32 f64) (call $run (i32.const 5))))"#,
    ),
    (
        "handlers without sites in functions with sites, whose targets have sites or not",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (tag $t (param i32)) (tag $e) (tag $v (param i64 v128))
          (func $may (param i32)
            (if (i32.eqz (local.get 0)) (then (throw $t (i32.const 6))))
            (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $e)))
            (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $v (i64.const 5) (v128.const i64x2 1 2)))))
          (func $f (param i32) (result i32)
            (call $s (i32.const 1))
            (block $split (result i32)
              (i32.const 40)
              (block $whole (result i32)
                (block $empty
                  (block $pair (result i64 v128)
                    (i32.const 8) (i64.const 9)
                    (try_table (param i64) (result i32) (catch $t $split) (catch $e $empty) (catch $v $pair)
                      (call $may (local.get 0)) (i32.wrap_i64))
                    (i32.add) (br $whole))
                  (drop) (i32.wrap_i64) (br $whole))
                (i32.const 3))
              (i32.add (call $s (i32.const 2))) (i32.add))
            (i32.add (call $s)))
          (func (export "f") (result i32) (local $i i32) (local $sum i32)
            (loop $next
              (local.set $sum (i32.add (local.get $sum) (call $f (local.get $i))))
              (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
            (local.get $sum)))"#,
    ),
    (
        "tail calls out of try_tables, which do not catch what the callee throws",
        r#"(module (type $t (func (param i32 i64) (result i32))) (import "h" "s1" (func $s (param i32) (result i32))) (tag $e (param i32))
          (table 2 funcref) (elem (i32.const 0) $callee $through)
          (func $callee (type $t)
            (if (i32.wrap_i64 (local.get 1)) (then (throw $e (call $s (local.get 0)))))
            (call $s (local.get 0)))
          (func $direct (type $t)
            (block $caught (result i32)
              (try_table (result i32) (catch $e $caught)
                (drop (call $s (i32.const 1)))
                (return_call $callee (local.get 0) (local.get 1))))
            (i32.const -1) (i32.add))
          (func $through (type $t)
            (block $caught (result i32)
              (try_table (result i32) (catch $e $caught)
                (if (call $s (i32.const 8)) (then (return_call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0))))
                (return_call $direct (local.get 0) (local.get 1))))
            (i32.const -2) (i32.add))
          (func $both (param i64) (result i32)
            (block $caught (result i32)
              (try_table (result i32) (catch $e $caught)
                (i32.add (call $direct (i32.const 3) (local.get 0)) (call $through (i32.const 4) (local.get 0))))))
          (func (export "throws") (result i32) (call $both (i64.const 1)))
          (func (export "returns") (result i32) (call $both (i64.const 0))))"#,
    ),
    (
        "caught exceptions that are kept over waits, as operands and in locals, and thrown on",
        r#"(module (import "h" "s1" (func $s (param i32) (result i32))) (import "h" "s0" (func $w))
          (tag $mixed (param f64 i32 i64 i32 v128)) (tag $none) (tag $one (param i64)) (tag $never (param funcref))
          (func $throw (param i32)
            (call $w)
            (if (i32.eqz (local.get 0))
              (then (throw $mixed (f64.const 1.5) (call $s (i32.const 2)) (i64.const 3) (i32.const 4) (v128.const i64x2 5 6))))
            (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $none)))
            (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $one (i64.const 7)))))
          (func $cleans_up (param i32) (result i32) (local $first exnref) (local $second exnref) (local $null exnref)
            (block $a (result exnref)
              (try_table (catch_all_ref $a) (call $throw (local.get 0)))
              (return (call $s (i32.const 1))))
            (local.set $first)
            (call $w)
            (block $b (result exnref)
              (try_table (catch_all_ref $b) (call $throw (i32.sub (i32.const 2) (local.get 0))))
              (unreachable))
            (i32.const 9)
            (drop (call $s (ref.is_null (local.get $null))))
            (drop)
            (local.set $second)
            (if (call $s (local.get 0)) (then (throw_ref (local.get $first))))
            (call $w)
            (throw_ref (local.get $second)))
          (func $outer (param i32) (result i32)
            (block $mixed (result f64 i32 i64 i32 v128)
              (block $one (result i64)
                (block $none
                  (return (try_table (result i32) (catch $mixed $mixed) (catch $none $none) (catch $one $one)
                    (i32.add (call $cleans_up (local.get 0)) (i32.const 1)))))
                (return (call $s (i32.const 50))))
              (return (call $s (i32.wrap_i64))))
            (i64x2.extract_lane 1) (i32.wrap_i64) (i32.mul) (call $s) (drop) (drop) (drop) (i32.trunc_f64_s))
          (func (export "f") (result i32) (local $i i32) (local $sum i32)
            (loop $next
              (local.set $sum (i32.add (local.get $sum) (call $outer (local.get $i))))
              (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
            (local.get $sum))
          (func (export "uncaught") (result i32) (call $cleans_up (i32.const 1)))
          (func $unprotected
            (block $e (result exnref)
              (try_table (catch_all_ref $e) (call $throw (i32.const 0)))
              (return))
            (call $throw (i32.const 2))
            (throw_ref))
          (func (export "leaves a kept one behind") (result i32)
            (block $one (result i64)
              (try_table (catch $one $one) (call $unprotected))
              (return (i32.const 1)))
            (call $s (i32.wrap_i64))))"#,
    ),
    (
        "functions kept warm, through which nothing is thrown, beside one that throws",
        r#"(module (import "h" "s1" (func $timers (param i32) (result i32))) (tag $t)
          (func $quiet (@name "write") (param i32) (result i32) (call $timers (local.get 0)))
          (func $thrower (@name "read") (param i32) (result i32) (drop (call $timers (local.get 0))) (throw $t))
          (func (export "f") (result i32)
            (block $caught
              (try_table (catch $t $caught) (drop (call $thrower (i32.const 1)))))
            (i32.add (call $timers (i32.const 2)) (call $quiet (i32.const 3)))))"#,
    ),
];

pub const SEVERAL: &[(&str, &[(&str, &str)])] = &[(
    "a tag that modules share, and one of the same type that they do not",
    &[
        (
            "library",
            r#"(module (tag $shared (export "tag") (param i32)) (tag $own (param i32)) (import "h" "s1" (func $s (param i32) (result i32)))
              (func (export "throw") (param i32)
                (if (call $s (local.get 0)) (then (throw $shared (local.get 0))))
                (throw $own (local.get 0)))
              (func (export "catch own") (param i32) (result i32)
                (block $b (result i32)
                  (try_table (result i32) (catch $own $b) (throw $shared (call $s (local.get 0)))))))"#,
        ),
        (
            "main",
            r#"(module (import "library" "tag" (tag $shared (param i32))) (import "library" "throw" (func $throw (param i32)))
              (import "library" "catch own" (func $own (param i32) (result i32))) (import "h" "s0" (func $w)) (tag $own (param i32))
              (func $catch (param i32) (result i32)
                (block $b (result i32)
                  (try_table (catch $own $b) (catch $shared $b) (call $w) (call $throw (local.get 0)))
                  (i32.const -1)))
              (func (export "again") (param i32) (result i32)
                (block $b (result i32)
                  (try_table (result i32) (catch $shared $b) (call $own (local.get 0)))))
              (func (export "f") (param i32) (result i32)
                (block $all
                  (try_table (catch_all $all)
                    (return (i32.add (call $catch (local.get 0)) (call $catch (i32.add (local.get 0) (i32.const 1)))))))
                (call $w) (i32.const -2)))"#,
        ),
    ],
)];
