//! WIT's types in Rust: which have handles inside, and how each is written with numbers in their place.

use heck::ToUpperCamelCase;
use wit_parser::{Handle, InterfaceId, Type, TypeDefKind, TypeId, TypeOwner};

use super::shims::Generator;

impl Generator {
    /// What stands at the end of a chain of aliases.
    pub fn resolved(&self, ty: &Type) -> Type {
        match ty {
            Type::Id(id) => match self.resolve.types[*id].kind {
                TypeDefKind::Type(inner) => self.resolved(&inner),
                _ => *ty,
            },
            plain => *plain,
        }
    }

    pub fn owner(&self, id: TypeId) -> InterfaceId {
        match self.resolve.types[id].owner {
            TypeOwner::Interface(owner) => owner,
            other => panic!("a type owned by {other:?}"),
        }
    }

    pub fn definition(&self, id: TypeId) -> TypeId {
        match self.resolved(&Type::Id(id)) {
            Type::Id(id) => id,
            plain => panic!("{plain:?} is no definition"),
        }
    }

    /// The Rust name of a resource's marker, and of its [`Kind`].
    pub fn kind(&self, id: TypeId) -> String {
        self.resolve.types[self.definition(id)].name.as_deref().unwrap().to_upper_camel_case()
    }

    pub fn path(&self, id: TypeId) -> String {
        let id = self.definition(id);
        format!("{}::{}", self.module(self.owner(id)), self.kind(id))
    }

    pub fn has_handle(&self, ty: &Type) -> bool {
        let Type::Id(id) = self.resolved(ty) else { return false };
        match &self.resolve.types[id].kind {
            TypeDefKind::Handle(_) => true,
            TypeDefKind::Option(inner) | TypeDefKind::List(inner) => self.has_handle(inner),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().any(|ty| self.has_handle(ty)),
            TypeDefKind::Result(result) => result.ok.iter().chain(&result.err).any(|ty| self.has_handle(ty)),
            TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty).any(|ty| self.has_handle(&ty)),
            TypeDefKind::Record(record) => record.fields.iter().any(|field| self.has_handle(&field.ty)),
            _ => false,
        }
    }

    /// A parameter's type with numbers in place of handles.
    pub fn plain(&self, ty: &Type) -> String {
        match self.resolved(ty) {
            Type::Bool => "bool".into(),
            Type::U8 => "u8".into(),
            Type::U16 => "u16".into(),
            Type::U32 => "u32".into(),
            Type::U64 => "u64".into(),
            Type::String => "String".into(),
            Type::Id(id) => match &self.resolve.types[id].kind {
                TypeDefKind::Handle(_) => "u32".into(),
                TypeDefKind::Option(inner) => format!("Option<{}>", self.plain(inner)),
                TypeDefKind::List(inner) => format!("Vec<{}>", self.plain(inner)),
                TypeDefKind::Tuple(tuple) => {
                    format!("({})", tuple.types.iter().map(|ty| self.plain(ty)).collect::<Vec<_>>().join(", "))
                }
                TypeDefKind::Result(result) => {
                    let part = |ty: &Option<Type>| ty.as_ref().map_or("()".into(), |ty| self.plain(ty));
                    format!("Result<{}, {}>", part(&result.ok), part(&result.err))
                }
                _ => self.path(id),
            },
            other => panic!("no parameter has type {other:?} so far"),
        }
    }

    /// An argument's handles from its numbers.
    pub fn to_handles(&self, value: &str, ty: &Type) -> String {
        let Type::Id(id) = self.resolved(ty) else { return value.into() };
        match &self.resolve.types[id].kind {
            TypeDefKind::Handle(Handle::Own(resource)) => {
                let kind = self.kind(*resource);
                format!("Resource::<{}>::new_own(state.ids.take({value}, Kind::{kind})?)", self.path(*resource))
            }
            TypeDefKind::Handle(Handle::Borrow(resource)) => {
                let kind = self.kind(*resource);
                format!("Resource::<{}>::new_borrow(state.ids.borrow({value}, Kind::{kind})?)", self.path(*resource))
            }
            TypeDefKind::Option(inner) if self.has_handle(inner) => {
                format!("match {value} {{ Some(one) => Some({}), None => None }}", self.to_handles("one", inner))
            }
            TypeDefKind::List(inner) if self.has_handle(inner) => {
                let one = self.to_handles("one", inner);
                format!("{value}.into_iter().map(|one| Ok({one})).collect::<wasmtime::Result<Vec<_>>>()?")
            }
            TypeDefKind::Result(result) => {
                let part = |ty: &Option<Type>| match ty {
                    Some(ty) if self.has_handle(ty) => self.to_handles("one", ty),
                    _ => "one".into(),
                };
                format!("match {value} {{ Ok(one) => Ok({}), Err(one) => Err({}) }}", part(&result.ok), part(&result.err))
            }
            other => panic!("no parameter has handles inside {other:?} so far"),
        }
    }

    /// A result's numbers from its handles.
    pub fn to_plain(&self, value: &str, ty: &Type) -> String {
        if !self.has_handle(ty) {
            return value.into();
        }
        let Type::Id(id) = self.resolved(ty) else { unreachable!("it has a handle inside") };
        match &self.resolve.types[id].kind {
            TypeDefKind::Handle(Handle::Own(resource)) => {
                format!("state.ids.put({value}.rep(), Kind::{}, reopen.clone())?", self.kind(*resource))
            }
            TypeDefKind::Option(inner) => {
                format!("match {value} {{ Some(one) => Some({}), None => None }}", self.to_plain("one", inner))
            }
            TypeDefKind::List(inner) => {
                let one = self.to_plain("one", inner).replace("reopen.clone()", "reopen.nth(place)");
                format!("{value}.into_iter().enumerate().map(|(place, one)| Ok({one})).collect::<wasmtime::Result<Vec<_>>>()?")
            }
            TypeDefKind::Tuple(tuple) => {
                let part = |(place, ty)| self.to_plain(&format!("{value}.{place}"), ty);
                format!("({})", tuple.types.iter().enumerate().map(part).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Result(result) => {
                let part = |name: &str, ty: &Option<Type>| ty.as_ref().map_or(name.into(), |ty| self.to_plain(name, ty));
                let (ok, err) = (part("value", &result.ok), part("error", &result.err));
                format!("match {value} {{\n    Ok(value) => Ok({ok}),\n    Err(error) => Err({err}),\n}}")
            }
            // The one named type with a handle inside.
            TypeDefKind::Variant(_) => format!("state.ids.put_stream_error({value})?"),
            other => panic!("no result has handles inside {other:?} so far"),
        }
    }
}
