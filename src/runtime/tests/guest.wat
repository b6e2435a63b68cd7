;; The task component of these tests, by hand: one core module whose tasks are told apart by the first letter of their names.
;;   w  waits seven times in a recursion that every other level leaves by an exception, growing and writing memory and changing a global
;;      between, and returns a digest
;;   d  drops a data segment, waits, and reads from it       u  waits and throws what nobody catches
;;   e  returns an error       t  traps       s  spins       r  recurses for ever       o  takes memory until there is no more
;; Its start function writes to memory as well.
(component
    (type $wait-type (instance
        (type $code-enum (enum "invalid" "denied" "not-found" "conflict" "too-large" "rate-limited" "cancelled" "unavailable" "internal"))
        (export "error-code" (type $code (eq $code-enum)))
        (type $ms (option u64))
        (type $host-error-record (record (field "code" $code) (field "message" string) (field "retry-after-ms" $ms)))
        (export "host-error" (type $host-error (eq $host-error-record)))
        (type $scope-enum (enum "run" "attempt" "global"))
        (export "idempotency-scope" (type $scope (eq $scope-enum)))
        (type $some-string (option string))
        (type $some-scope (option $scope))
        (type $idempotency-record (record
            (field "key" string) (field "ttl-ms" $ms) (field "user-key" $some-string) (field "scope" $some-scope)))
        (export "idempotency" (type $idempotency (eq $idempotency-record)))
        (type $some-idempotency (option $idempotency))
        (type $outcome (result (error $host-error)))
        (export "for-duration" (func (param "duration" u64) (param "idempotency" $some-idempotency) (result $outcome)))))
    (import "dormouse:task/wait@0.1.0" (instance $wait (type $wait-type)))

    (core module $memory
        (memory (export "memory") 2)
        (data (i32.const 0) "test/1waits0123456789application/jsonthe task failed")
        (data (i32.const 70000) "a page that the start function changes and one that nobody does")
        (func $start (i32.store (i32.const 70000) (i32.const 7)))
        (start $start)
        (global $next (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.get $next)
            (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 15)) (i32.const -8)))))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $m))
    (alias core export $memory "realloc" (core func $realloc))
    (alias export $wait "for-duration" (func $for-duration))
    (core func $lowered (canon lower (func $for-duration) (memory $m) (realloc $realloc)))

    (core module $main
        (import "wait" "for-duration"
            (func $for-duration (param i64 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32)))
        (import "memory" "memory" (memory 1))
        (global $sum (mut i64) (i64.const 1))
        (tag $odd (param i64))
        (data $once "read once")

        (func $pause (param $ms i64)
            (call $for-duration (local.get $ms) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then (unreachable))))

        (func $mix (param $value i64)
            (global.set $sum (i64.add (i64.mul (global.get $sum) (i64.const 31)) (local.get $value))))

        ;; Every level takes 320 KiB and fills four fifths of them before its wait, and reads from them after it: the last snapshots
        ;; have more than a megabyte.
        (func $descend (param $depth i32) (result i64)
            (local $place i32) (local $below i64) (local $half f64)
            (local.set $half (f64.div (f64.convert_i32_u (local.get $depth)) (f64.const 2)))
            (local.set $place (i32.mul (memory.grow (i32.const 5)) (i32.const 65536)))
            (memory.fill (local.get $place) (i32.add (local.get $depth) (i32.const 100)) (i32.const 262144))
            (if (local.get $depth)
                (then (local.set $below
                    (block $caught (result i64)
                        (try_table (result i64) (catch $odd $caught)
                            (call $descend (i32.sub (local.get $depth) (i32.const 1))))))))
            (call $pause (i64.extend_i32_u (i32.add (local.get $depth) (i32.const 60000))))
            (call $mix (i64.add (local.get $below) (i64.extend_i32_u (i32.load (local.get $place)))))
            (call $mix (i64.reinterpret_f64 (local.get $half)))
            (i64.xor (global.get $sum) (i64.extend_i32_u (local.get $place)))
            (if (param i64) (result i64) (i32.and (local.get $depth) (i32.const 1)) (then (throw $odd))))

        (func $drop (data.drop $once))

        (func $read-dropped
            (memory.init $once (i32.const 256) (i32.const 0) (i32.const 9))
            (call $drop)
            (call $pause (i64.const 60000))
            (memory.init $once (i32.const 256) (i32.const 0) (i32.const 9)))

        (func $throw-up (call $pause (i64.const 60000)) (throw $odd (i64.const 1)))

        (func $recurse (param i32) (result i32)
            (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (local.get 0)))

        (func $take-all (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable))

        ;; Sixteen letters of a digest, as the output's text.
        (func $print (param $value i64)
            (local $at i32)
            (loop
                (i32.store8 offset=304 (local.get $at)
                    (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $value) (i64.const 15)))))
                (local.set $value (i64.shr_u (local.get $value) (i64.const 4)))
                (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 16)))))

        (func $run (export "run") (param $task i32) (param i32 i32 i32 i32 i32) (result i32)
            (local $letter i32)
            (local.set $letter (i32.load8_u (local.get $task)))
            (if (i32.eq (local.get $letter) (i32.const 0x74)) (then (unreachable)))
            (if (i32.eq (local.get $letter) (i32.const 0x64)) (then (call $read-dropped)))
            (if (i32.eq (local.get $letter) (i32.const 0x75)) (then (call $throw-up)))
            (if (i32.eq (local.get $letter) (i32.const 0x73)) (then (loop (br 0))))
            (if (i32.eq (local.get $letter) (i32.const 0x72)) (then (drop (call $recurse (i32.const 1)))))
            (if (i32.eq (local.get $letter) (i32.const 0x6f)) (then (call $take-all)))
            (if (i32.eq (local.get $letter) (i32.const 0x65)) (then (return (call $fail))))
            (call $mix (call $descend (i32.const 6)))
            (call $mix (i64.load (i32.const 70000)))
            (call $print (global.get $sum))
            ;; ok: packet { data: 16 bytes at 304, content-type: "application/json" at 21 }
            (i32.store8 (i32.const 400) (i32.const 0))
            (i32.store (i32.const 408) (i32.const 304)) (i32.store (i32.const 412) (i32.const 16))
            (i32.store (i32.const 416) (i32.const 21)) (i32.store (i32.const 420) (i32.const 16))
            (i32.const 400))

        ;; error: task-error { thrown, text("the task failed"), abort }
        (func $fail (result i32)
            (i32.store8 (i32.const 400) (i32.const 1))
            (i32.store8 (i32.const 408) (i32.const 0))
            (i32.store8 (i32.const 412) (i32.const 1))
            (i32.store (i32.const 416) (i32.const 37)) (i32.store (i32.const 420) (i32.const 15))
            (i32.store8 (i32.const 448) (i32.const 1))
            (i32.const 400))

        ;; One task, "waits", and nothing else: zeros are empty lists, absent options and the first cases.
        (func (export "describe") (result i32)
            (i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 516) (i32.const 6))
            (i32.store (i32.const 520) (i32.const 600)) (i32.store (i32.const 524) (i32.const 1))
            (i32.store (i32.const 600) (i32.const 6)) (i32.store (i32.const 604) (i32.const 5))
            (i32.const 512)))
    (core instance $main (instantiate $main
        (with "wait" (instance (export "for-duration" (func $lowered))))
        (with "memory" (instance $memory))))

    (type $packet (record (field "data" (list u8)) (field "content-type" string)))
    (type $exception (record (field "name" string) (field "message" string) (field "stack-trace" string)))
    (type $exception-chain (record (field "outermost" $exception) (field "causes" (list $exception))))
    (type $internal-error (record (field "code" string) (field "message" string)))
    (type $run-error (variant
        (case "exception" $exception-chain) (case "text" string) (case "custom" string) (case "internal" $internal-error)))
    (type $failure-reason (enum "thrown" "unknown-task" "input" "output" "middleware" "catch-error" "out-of-memory"))
    (type $retry-decision (variant (case "policy") (case "abort") (case "retry-delay" u64) (case "retry-at" u64)))
    (type $task-error (record (field "reason" $failure-reason) (field "error" $run-error) (field "retry" $retry-decision)))
    (type $retry-policy (record
        (field "max-attempts" u32) (field "factor" f64) (field "min-timeout-ms" u64) (field "max-timeout-ms" u64)
        (field "randomize" bool) (field "out-of-memory-machine" (option string))))
    (type $queue-definition (record (field "name" string) (field "concurrency-limit" (option u32))))
    (type $limit-definition (record (field "name" string) (field "total" (option u32)) (field "per-key" (option u32))))
    (type $schedule-definition (record
        (field "cron" string) (field "timezone" string) (field "environments" (list string)) (field "window-ms" (option u64))))
    (type $task-kind (enum "standard" "scheduled"))
    (type $hooks (flags "middleware" "init" "on-start" "on-start-attempt" "on-wait" "on-resume" "on-success" "catch-error"
        "on-failure" "on-complete" "on-cancel" "cleanup"))
    (type $task-definition (record
        (field "id" string) (field "kind" $task-kind) (field "description" (option string)) (field "source" (option string))
        (field "retry" (option $retry-policy)) (field "queue" (option string)) (field "concurrency-limits" (list string))
        (field "machine" (option string)) (field "max-duration-ms" (option u64)) (field "ttl-ms" (option u64))
        (field "schedule" (option $schedule-definition)) (field "payload-schema" (option string)) (field "hooks" $hooks)))
    (type $bundle-definition (record
        (field "sdk" string) (field "tasks" (list $task-definition)) (field "queues" (list $queue-definition))
        (field "concurrency-limits" (list $limit-definition))))
    (type $run-type (func (param "task" string) (param "payload" $packet) (result (result $packet (error $task-error)))))
    (type $describe-type (func (result $bundle-definition)))
    (func $run (type $run-type) (canon lift (core func $main "run") (memory $m) (realloc $realloc)))
    (func $describe (type $describe-type) (canon lift (core func $main "describe") (memory $m) (realloc $realloc)))
    (instance $tasks
        (export "packet" (type $packet)) (export "exception" (type $exception)) (export "exception-chain" (type $exception-chain))
        (export "internal-error" (type $internal-error)) (export "run-error" (type $run-error))
        (export "failure-reason" (type $failure-reason)) (export "retry-decision" (type $retry-decision))
        (export "task-error" (type $task-error)) (export "retry-policy" (type $retry-policy))
        (export "queue-definition" (type $queue-definition)) (export "concurrency-limit-definition" (type $limit-definition))
        (export "schedule-definition" (type $schedule-definition)) (export "task-kind" (type $task-kind))
        (export "hooks" (type $hooks)) (export "task-definition" (type $task-definition))
        (export "bundle-definition" (type $bundle-definition))
        (export "run" (func $run)) (export "describe" (func $describe)))
    (export "dormouse:task/tasks@0.1.0" (instance $tasks)))
