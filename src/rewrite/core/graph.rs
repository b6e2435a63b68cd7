//! Which functions can be on the stack when a suspending import is called: the call graph of the whole program, walked backwards.
//!
//! A call through a table may reach every function of its type that an element segment puts into that table. Nothing else can: tables are
//! not mutated (refused), and a reference made by `ref.func` has no other way to be called.
//!
//! Programs wait for timers and for streams through the same imports, and a poll is suspended only if all it waits for are timers. The C
//! library's functions that move data through a stream ([`STREAMS`]) poll for that stream; nearly everything else calls them, to write a
//! line or a panic's message. They are *kept warm* instead of instrumented: while one is on the stack, polls do not suspend. They are
//! known by their names, so a component without names only gets larger; and a function of that name which sleeps sleeps in memory.

use std::collections::{HashMap, HashSet};

use wasmparser::FuncType;

use super::program::{Program, Suspends};
use super::scan::Callee;
use super::wiring::{TableId, Target, Wiring};

/// Functions of wasi-libc that wait for a stream, in its versions since 2024.
const STREAMS: [&str; 4] = ["__wasilibc_read", "__wasilibc_write", "read", "write"];

/// The answer for one module.
#[derive(Debug, Default)]
pub struct MaySuspend {
    /// By function index, imported ones first.
    functions: Vec<bool>,
    /// Calls through tables.
    indirect: HashMap<Callee, bool>,
    /// Whether functions of the module are kept warm.
    keeps_warm: bool,
}

impl MaySuspend {
    /// Whether the module has functions that never suspend though what they call may: around such calls polls are kept warm.
    pub fn keeps_warm(&self) -> bool {
        self.keeps_warm
    }

    /// Whether the function at `index` can be left and come back to.
    pub fn function(&self, index: u32) -> bool {
        self.functions.get(index as usize).copied().unwrap_or(false)
    }

    /// Whether any function can, an imported one included.
    pub fn any(&self) -> bool {
        self.functions.contains(&true)
    }

    /// Whether a call instruction can be a place of suspension.
    pub fn callee(&self, callee: Callee) -> bool {
        match callee {
            Callee::Function(index) => self.function(index),
            indirect => self.indirect.get(&indirect).copied().unwrap_or(true),
        }
    }
}

/// Analyses the program; one answer per module.
pub fn may_suspend(program: &Program<'_>, wiring: &Wiring) -> Vec<MaySuspend> {
    let mut graph = Graph::new(program, wiring);
    graph.add_segments();
    graph.add_bodies();
    let always = graph.backwards(&[ALWAYS], &HashSet::new());
    let throwing = graph.backwards(&graph.throwing(), &HashSet::new());
    let warm = graph.kept_warm(&always, &throwing);
    let reached = graph.backwards(&[ALWAYS, FOR_TIMERS], &warm);
    let warm = graph.edges.iter().filter(|(callee, caller)| reached[*callee as usize] && warm.contains(caller));
    let warm = warm.map(|(_, caller)| *caller).collect();
    graph.answers(&reached, &warm)
}

/// Dense number of a node.
type Node = u32;

/// A node that is not a defined function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Through {
    /// The functions of one type in a table.
    Type(TableId, u32),
    /// The functions of one type in one slot of a table.
    Slot(TableId, u32, u32),
}

struct Graph<'p, 'a> {
    program: &'p Program<'a>,
    wiring: &'p Wiring,
    /// First node of each module's defined functions.
    first: Vec<Node>,
    nodes: u32,
    through: HashMap<Through, Node>,
    /// Equal function types of all modules have one number.
    type_ids: HashMap<&'p FuncType, u32>,
    /// (callee, caller)
    edges: Vec<(Node, Node)>,
    /// What is known of each table's slots; absent if some segment's place or content is unknown.
    known_slots: HashMap<TableId, bool>,
    /// The slots that some call names.
    asked: HashSet<(TableId, u32)>,
}

/// The imports that suspend, by what they wait for.
const ALWAYS: Node = 0;
const FOR_TIMERS: Node = 1;

impl<'p, 'a> Graph<'p, 'a> {
    fn new(program: &'p Program<'a>, wiring: &'p Wiring) -> Graph<'p, 'a> {
        let mut nodes = 2;
        let mut type_ids = HashMap::new();
        let mut first = vec![];
        for linked in &program.modules {
            first.push(nodes);
            nodes += linked.module.functions.len() as u32;
            for ty in &linked.module.types {
                let next = type_ids.len() as u32;
                type_ids.entry(ty).or_insert(next);
            }
        }
        let mut asked = HashSet::new();
        for (linked, tables) in program.modules.iter().zip(&wiring.tables) {
            for callee in linked.module.functions.iter().flat_map(|function| &function.facts.callees) {
                if let Callee::Slot { table, slot, .. } = callee {
                    asked.extend(tables.get(*table as usize).map(|table| (*table, *slot)));
                }
            }
        }
        let (through, known_slots) = (HashMap::new(), HashMap::new());
        Graph { program, wiring, first, nodes, through, type_ids, edges: vec![], known_slots, asked }
    }

    /// The node of a function index, or `None` for a host function that never suspends.
    fn function(&self, module: usize, index: u32) -> Option<Node> {
        match *self.wiring.functions[module].get(index as usize)? {
            Target::Suspending(Suspends::Always) => Some(ALWAYS),
            Target::Suspending(Suspends::ForTimers) => Some(FOR_TIMERS),
            Target::Opaque => None,
            Target::Defined { module, index } => {
                Some(self.first[module] + index - self.program.modules[module].module.imported_functions)
            }
        }
    }

    fn through(&mut self, through: Through) -> Node {
        let next = self.nodes;
        let node = *self.through.entry(through).or_insert(next);
        self.nodes += u32::from(node == next);
        node
    }

    fn type_id(&self, module: usize, ty: u32) -> Option<u32> {
        self.type_ids.get(self.program.modules[module].module.types.get(ty as usize)?).copied()
    }

    /// Tables reach what element segments put into them.
    fn add_segments(&mut self) {
        let program = self.program;
        let mut distrusted = HashSet::new();
        for (module, linked) in program.modules.iter().enumerate() {
            for segment in &linked.module.segments {
                let Some(table) = self.wiring.tables[module].get(segment.table as usize).copied() else { continue };
                let is_known = segment.offset.is_some() && !segment.has_unknown_items;
                *self.known_slots.entry(table).or_insert(true) &= is_known;
                if segment.has_unknown_items && distrusted.insert(table) {
                    self.distrust(table);
                }
                for (slot, function) in segment.functions.iter().enumerate() {
                    let Some(function) = *function else { continue };
                    let Some(node) = self.function(module, function) else { continue };
                    let Some(ty) = self.type_id(module, linked.module.function_types[function as usize]) else { continue };
                    let by_type = self.through(Through::Type(table, ty));
                    self.edges.push((node, by_type));
                    let slot = segment.offset.map(|offset| offset.wrapping_add(slot as u32));
                    if let Some(slot) = slot.filter(|slot| self.asked.contains(&(table, *slot))) {
                        let by_slot = self.through(Through::Slot(table, slot, ty));
                        self.edges.push((node, by_slot));
                    }
                }
            }
        }
    }

    /// The table may hold any function: every call through it may suspend.
    fn distrust(&mut self, table: TableId) {
        for ty in 0..self.type_ids.len() as u32 {
            let node = self.through(Through::Type(table, ty));
            self.edges.push((ALWAYS, node));
        }
    }

    fn add_bodies(&mut self) {
        let program = self.program;
        for (module, linked) in program.modules.iter().enumerate() {
            for (caller, function) in (self.first[module]..).zip(&linked.module.functions) {
                for callee in &function.facts.callees {
                    if let Some(callee) = self.callee(module, *callee) {
                        self.edges.push((callee, caller));
                    }
                }
            }
        }
        self.edges.sort_unstable();
        self.edges.dedup();
    }

    fn callee(&mut self, module: usize, callee: Callee) -> Option<Node> {
        let (table, ty, slot) = match callee {
            Callee::Function(index) => return self.function(module, index),
            Callee::Indirect { table, ty } => (table, ty, None),
            Callee::Slot { table, ty, slot } => (table, ty, Some(slot)),
        };
        let table = *self.wiring.tables[module].get(table as usize)?;
        let ty = self.type_id(module, ty)?;
        match slot {
            Some(slot) if self.known_slots.get(&table) == Some(&true) => Some(self.through(Through::Slot(table, slot, ty))),
            _ => Some(self.through(Through::Type(table, ty))),
        }
    }

    /// The functions that throw themselves.
    fn throwing(&self) -> Vec<Node> {
        let modules = self.program.modules.iter().zip(&self.first);
        let functions = modules.flat_map(|(linked, first)| (*first..).zip(&linked.module.functions));
        functions.filter(|(_, function)| function.facts.throws).map(|(node, _)| node).collect()
    }

    /// The functions that are kept warm: those of the C library that wait for streams, if they cannot reach a wait of another kind, and
    /// nothing can be thrown through them: they would not come to say that they are left.
    fn kept_warm(&self, always: &[bool], throwing: &[bool]) -> HashSet<Node> {
        let mut warm = HashSet::new();
        for (linked, first) in self.program.modules.iter().zip(&self.first) {
            for (position, function) in (0..).zip(&linked.module.functions) {
                let name = linked.module.function_names.get(&(linked.module.imported_functions + position));
                let is_named = name.is_some_and(|name| STREAMS.contains(name));
                let node = (first + position) as usize;
                // Nothing could be done after a tail call.
                if is_named && !always[node] && !throwing[node] && !function.facts.has_tail_calls {
                    warm.insert(first + position);
                }
            }
        }
        warm
    }

    /// Every node from which one of the imports can be reached but through these callers.
    fn backwards(&self, imports: &[Node], except: &HashSet<Node>) -> Vec<bool> {
        let mut reached = vec![false; self.nodes as usize];
        let mut work = imports.to_vec();
        work.iter().for_each(|import| reached[*import as usize] = true);
        while let Some(node) = work.pop() {
            let start = self.edges.partition_point(|(callee, _)| *callee < node);
            for (_, caller) in self.edges[start..].iter().take_while(|(callee, _)| *callee == node) {
                if !except.contains(caller) && !std::mem::replace(&mut reached[*caller as usize], true) {
                    work.push(*caller);
                }
            }
        }
        reached
    }

    fn answers(&mut self, reached: &[bool], warm: &HashSet<Node>) -> Vec<MaySuspend> {
        let program = self.program;
        let is_reached = |node: Option<Node>| node.is_some_and(|node| reached.get(node as usize).copied().unwrap_or(false));
        let mut answers = vec![];
        for (module, linked) in program.modules.iter().enumerate() {
            let indices = 0..linked.module.function_types.len() as u32;
            let functions = indices.map(|index| is_reached(self.function(module, index))).collect();
            let defined = self.first[module]..self.first[module] + linked.module.functions.len() as u32;
            let keeps_warm = defined.into_iter().any(|node| warm.contains(&node));
            let mut answer = MaySuspend { functions, indirect: HashMap::new(), keeps_warm };
            for callee in linked.module.functions.iter().flat_map(|function| &function.facts.callees) {
                if !matches!(callee, Callee::Function(_)) && !answer.indirect.contains_key(callee) {
                    let node = self.callee(module, *callee);
                    answer.indirect.insert(*callee, is_reached(node));
                }
            }
            answers.push(answer);
        }
        answers
    }
}
