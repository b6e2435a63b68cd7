//! What the component model allows and a suspendable component may not have.

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration,
};

const OWN_RESOURCES: &str = "defines resources of its own";
const ASYNC_TYPES: &str = "uses async functions, streams or futures, which are not available in this version";
const ASYNC: &str =
    "uses the async, stream, future or thread functions of the component model, which are not available in this version";

/// Looks for definitions of resources and for everything asynchronous in a type, at any depth.
pub fn in_type(ty: &ComponentType<'_>) -> Option<&'static str> {
    match ty {
        ComponentType::Resource { .. } => Some(OWN_RESOURCES),
        ComponentType::Func(func) => func.async_.then_some(ASYNC_TYPES),
        ComponentType::Defined(ComponentDefinedType::Future(_) | ComponentDefinedType::Stream(_)) => Some(ASYNC_TYPES),
        ComponentType::Defined(ComponentDefinedType::Map(..)) => Some("uses maps, which are not available in this version"),
        ComponentType::Defined(ComponentDefinedType::FixedLengthList(..)) => {
            Some("uses lists of fixed length, which are not available in this version")
        }
        ComponentType::Defined(_) => None,
        ComponentType::Component(declarations) => declarations.iter().find_map(|declaration| match declaration {
            ComponentTypeDeclaration::Type(ty) => in_type(ty),
            _ => None,
        }),
        ComponentType::Instance(declarations) => declarations.iter().find_map(|declaration| match declaration {
            InstanceTypeDeclaration::Type(ty) => in_type(ty),
            _ => None,
        }),
    }
}

/// Looks for canonical functions that cannot be kept.
pub fn in_canonical(canonical: &CanonicalFunction) -> Option<&'static str> {
    match canonical {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => in_options(options),
        CanonicalFunction::ResourceDrop { .. } => None,
        CanonicalFunction::ResourceNew { .. } | CanonicalFunction::ResourceRep { .. } => Some(OWN_RESOURCES),
        _ => Some(ASYNC),
    }
}

fn in_options(options: &[CanonicalOption]) -> Option<&'static str> {
    options.iter().find_map(|option| match option {
        CanonicalOption::Async | CanonicalOption::Callback(_) => Some(ASYNC),
        CanonicalOption::Gc | CanonicalOption::CoreType(_) => {
            Some("lifts or lowers functions with garbage-collected types, which are not available in this version")
        }
        _ => None,
    })
}
