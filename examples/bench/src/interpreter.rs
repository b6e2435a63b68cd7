//! A small stack machine whose instructions are functions in a table: calls, and calls through pointers, all the time.

struct Machine {
    stack: Vec<i64>,
    at: usize,
    rounds: i64,
}

type Instruction = fn(&mut Machine, i64);

impl Machine {
    fn push(&mut self, value: i64) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> i64 {
        self.stack.pop().expect("the program below leaves no instruction without operands")
    }
}

fn constant(machine: &mut Machine, value: i64) {
    machine.push(value);
}

fn copy(machine: &mut Machine, depth: i64) {
    let value = machine.stack[machine.stack.len() - 1 - depth as usize];
    machine.push(value);
}

fn add(machine: &mut Machine, _: i64) {
    let (right, left) = (machine.pop(), machine.pop());
    machine.push(left.wrapping_add(right));
}

fn multiply(machine: &mut Machine, _: i64) {
    let (right, left) = (machine.pop(), machine.pop());
    machine.push(left.wrapping_mul(right));
}

fn exclusive_or(machine: &mut Machine, _: i64) {
    let (right, left) = (machine.pop(), machine.pop());
    machine.push(left ^ right);
}

fn shift(machine: &mut Machine, by: i64) {
    let value = machine.pop();
    machine.push(((value as u64) >> by) as i64);
}

/// Jumps as long as rounds are left.
fn again(machine: &mut Machine, target: i64) {
    machine.rounds -= 1;
    if machine.rounds > 0 {
        machine.at = target as usize;
    }
}

/// x ← x ^ ((x >> 7) + x · a), n times.
const PROGRAM: [(Instruction, i64); 9] = [
    (constant, 1),
    (copy, 0),
    (shift, 7),
    (copy, 1),
    (constant, 6_364_136_223_846_793_005),
    (multiply, 0),
    (add, 0),
    (exclusive_or, 0),
    (again, 1),
];

/// The top of the stack after that many rounds.
pub fn run(rounds: u32) -> u64 {
    let mut machine = Machine { stack: Vec::new(), at: 0, rounds: i64::from(rounds) };
    let program = std::hint::black_box(PROGRAM);
    while let Some((instruction, operand)) = program.get(machine.at) {
        machine.at += 1;
        instruction(&mut machine, *operand);
    }
    machine.pop() as u64
}
