//! Finds the core function behind `tasks.run`, the one way into a task.

use wasmparser::{
    CanonicalOption, ComponentExternalKind, PrimitiveValType, ValType,
    component_types::{ComponentDefinedType, ComponentEntityType, ComponentInstanceType, ComponentValType},
};

use super::{
    Refusal,
    core::Entry,
    imports::{self, TASKS},
    model::{CoreSource, Func, FuncSource, Model},
    wiring::Wiring,
};

/// The function a run enters through.
pub struct TaskEntry {
    /// In the program of core modules.
    pub core: Entry,
    /// The lifted core function.
    pub core_func: u32,
    /// The options it is lifted with.
    pub options: Vec<CanonicalOption>,
    /// The exported instance that `run` belongs to, by the index its export has.
    pub exported_instance: u32,
}

/// Finds the entry of a component.
///
/// # Errors
/// What a task component must export, if this one does not.
pub fn find(model: &Model<'_>, wiring: &Wiring<'_>) -> Result<TaskEntry, Refusal> {
    let mut tasks = model
        .exports
        .iter()
        .filter(|export| export.kind == ComponentExternalKind::Instance && imports::is_version_of(export.name, TASKS));
    let Some(export) = tasks.next() else {
        return Err(Refusal::of_component(format!(
            "does not export `{TASKS}@0.1.0`: a task component must export that interface, with `describe`, which names its tasks, and \
             `run`, which runs one"
        )));
    };
    if tasks.next().is_some() {
        return Err(Refusal::of_component(format!("exports `{TASKS}` in more than one version")));
    }
    let misshapen = || {
        Refusal::of_component(format!(
            "exports `{}`, but its `run` is not `func(task: string, payload: packet) -> result<packet, task-error>`",
            export.name
        ))
    };
    if !has_expected_shape(model, export.exported) {
        return Err(misshapen());
    }
    let hidden =
        || Refusal::of_component(format!("exports `{}`, but its `run` is not a lifted function of a core module", export.name));
    let FuncSource::Lifted(func) = model.exported_func(export.index, "run") else { return Err(hidden()) };
    let Func::Lifted { core_func, options } = &model.funcs[func as usize] else { return Err(hidden()) };
    if !has_expected_signature(model, *core_func) {
        return Err(misshapen());
    }
    let CoreSource::Module { instance, name } = model.core_func(*core_func) else { return Err(hidden()) };
    let module = wiring.places[instance as usize].ok_or_else(hidden)?;
    Ok(TaskEntry {
        core: Entry { module, export: name.to_owned() },
        core_func: *core_func,
        options: options.to_vec(),
        exported_instance: export.exported,
    })
}

/// Whether a core function takes a string and a packet (a string and a list) and returns where its result is.
fn has_expected_signature(model: &Model<'_>, core_func: u32) -> bool {
    let types = model.validated.as_ref();
    let ty = types[types.core_function_at(core_func)].unwrap_func();
    ty.params() == [ValType::I32; 6] && ty.results() == [ValType::I32]
}

/// Whether `run` of the exported instance has the type that the functions added to the component are given, as far as it can be seen
/// without comparing the types that the instance exports as `packet` and `task-error`.
fn has_expected_shape(model: &Model<'_>, instance: u32) -> bool {
    let types = model.validated.as_ref();
    let instance: &ComponentInstanceType = &types[types.component_instance_at(instance)];
    let is_type = |name: &str| matches!(instance.exports.get(name).map(|item| &item.ty), Some(ComponentEntityType::Type { .. }));
    let Some(ComponentEntityType::Func(run)) = instance.exports.get("run").map(|item| &item.ty) else { return false };
    let run = &types[*run];
    let [(task_name, task), (payload_name, ComponentValType::Type(_))] = &run.params[..] else { return false };
    let task_is_string = match task {
        ComponentValType::Primitive(primitive) => *primitive == PrimitiveValType::String,
        ComponentValType::Type(ty) => matches!(types[*ty], ComponentDefinedType::Primitive(PrimitiveValType::String)),
    };
    let Some(ComponentValType::Type(result)) = run.result else { return false };
    let result_is_result = matches!(types[result], ComponentDefinedType::Result { ok: Some(_), err: Some(_), .. });
    let names_fit = task_name.as_str() == "task" && payload_name.as_str() == "payload";
    names_fit && task_is_string && result_is_result && is_type("packet") && is_type("task-error")
}
