//! From a checked function and its options to the items that make it a task.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, ItemFn, PathArguments, Result, ReturnType, Type, parse_quote};

use crate::options::{Limit, Options, Queue, Retry, Schedule};

/// The function and its `Task` implementation.
pub(crate) fn task(options: &Options, function: &ItemFn) -> Result<TokenStream> {
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let id = options.id.clone().unwrap_or_else(|| default_id(&name.to_string()));
    let definition = definition(options, name.span());
    let call = call(function)?;
    let triggers = triggers(&id, function);
    let about = format!("The task `{id}`, as `dormouse::bundle!` knows it.");
    Ok(quote! {
        #function

        #[doc = #about]
        #[allow(non_camel_case_types)]
        #visibility enum #name {}

        impl ::dormouse::Task for #name {
            const ID: &'static str = #id;

            fn options() -> ::dormouse::__private::Options {
                #definition
            }

            fn run(packet: ::dormouse::__private::Packet)
                -> ::core::result::Result<::dormouse::__private::Packet, ::dormouse::TaskError>
            {
                use ::dormouse::__private::Output as _;

                #call
            }
        }

        #triggers
    })
}

/// What others start the task with: the functions of `dormouse::tasks` with the task's own types. The bounds hold for those who use
/// them: in a clause with a lifetime of its own, a type for which they do not is no error.
fn triggers(id: &str, function: &ItemFn) -> TokenStream {
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let unit: Type = parse_quote!(());
    let payload = match function.sig.inputs.first() {
        Some(FnArg::Typed(payload)) => (*payload.ty).clone(),
        _ => unit.clone(),
    };
    let output = match &function.sig.output {
        ReturnType::Default => unit,
        ReturnType::Type(_, returned) => output(returned),
    };
    let (sends, gets) = (
        quote!(for<'any> #payload: ::dormouse::__private::Serialize),
        quote!(for<'any> #output: ::dormouse::__private::DeserializeOwned),
    );
    let items = quote! {
        payloads
            .into_iter()
            .map(|payload| ::dormouse::tasks::Item::new(#id, payload))
            .collect::<::core::result::Result<::std::vec::Vec<_>, ::dormouse::HostError>>()?
    };
    quote! {
        #[allow(dead_code, private_interfaces)]
        impl #name {
            /// Starts a run of this task, and goes on: see `dormouse::tasks::trigger`.
            #visibility fn trigger(payload: &#payload)
                -> ::core::result::Result<::dormouse::tasks::RunHandle, ::dormouse::HostError>
            where #sends
            {
                ::dormouse::tasks::trigger(#id, payload)
            }

            /// Starts a run of this task, made so, and goes on.
            #visibility fn trigger_with(payload: &#payload, options: &::dormouse::tasks::Options)
                -> ::core::result::Result<::dormouse::tasks::RunHandle, ::dormouse::HostError>
            where #sends
            {
                ::dormouse::tasks::trigger_with(#id, payload, options)
            }

            /// Starts a run of this task and waits for its end: see `dormouse::tasks::trigger_and_wait`.
            #visibility fn trigger_and_wait(payload: &#payload)
                -> ::core::result::Result<::dormouse::TaskResult<#output>, ::dormouse::WaitError>
            where #sends, #gets
            {
                ::dormouse::tasks::trigger_and_wait(#id, payload)
            }

            /// Starts a run of this task, made so, and waits for its end.
            #visibility fn trigger_and_wait_with(payload: &#payload, options: &::dormouse::tasks::Options)
                -> ::core::result::Result<::dormouse::TaskResult<#output>, ::dormouse::WaitError>
            where #sends, #gets
            {
                ::dormouse::tasks::trigger_and_wait_with(#id, payload, options)
            }

            /// Starts a run of this task for each payload, and goes on: see `dormouse::tasks::batch_trigger`.
            #visibility fn batch_trigger(payloads: &[#payload])
                -> ::core::result::Result<::dormouse::tasks::BatchHandle, ::dormouse::HostError>
            where #sends
            {
                ::dormouse::tasks::batch_trigger(#items)
            }

            /// Starts a run of this task for each payload and waits for their ends: see
            /// `dormouse::tasks::batch_trigger_and_wait`.
            #visibility fn batch_trigger_and_wait(payloads: &[#payload])
                -> ::core::result::Result<::dormouse::BatchResult<#output>, ::dormouse::WaitError>
            where #sends, #gets
            {
                ::dormouse::tasks::batch_trigger_and_wait(#items)
            }
        }
    }
}

/// What a task returns if nothing goes wrong: of a type that is called `Result`, by this name or another path, its first parameter.
fn output(returned: &Type) -> Type {
    if let Type::Path(path) = returned
        && let Some(last) = path.path.segments.last()
        && last.ident == "Result"
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(output)) = arguments.args.first()
    {
        return output.clone();
    }
    returned.clone()
}

/// A task that has no id is called like its function, with hyphens as ids usually have them.
fn default_id(function: &str) -> String {
    function.trim_start_matches("r#").replace('_', "-")
}

/// Decode, call, encode. Refuses functions that cannot be tasks.
fn call(function: &ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    if let Some(word) = &signature.asyncness {
        return Err(Error::new(word.span(), "a task is an ordinary blocking function: a wait suspends it without `async`"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(signature.generics.span(), "a task cannot be generic: its payload has one type"));
    }
    let name = &signature.ident;
    let mut inputs = signature.inputs.iter();
    let (Some(first), None) = (inputs.next(), inputs.next()) else {
        return match signature.inputs.get(1) {
            None => Ok(quote!(::dormouse::__private::Returned(#name()).encode())),
            Some(second) => Err(Error::new(second.span(), "a task takes one payload; put several values into a struct")),
        };
    };
    match first {
        FnArg::Receiver(receiver) => Err(Error::new(receiver.span(), "a task is a free function, not a method")),
        FnArg::Typed(payload) => {
            let kind = &payload.ty;
            // At the type's own place, so that a missing `Deserialize` is reported there.
            let decoded = quote_spanned!(kind.span()=> ::dormouse::__private::decode_payload::<#kind>(packet)?);
            Ok(quote!(::dormouse::__private::Returned(#name(#decoded)).encode()))
        }
    }
}

fn definition(options: &Options, place: proc_macro2::Span) -> TokenStream {
    let description = optional(options.description.as_ref());
    let machine = optional(options.machine.as_ref());
    let max_duration = optional(options.max_duration);
    let ttl = optional(options.ttl);
    let retry = optional(options.retry.as_ref().map(retry));
    let queue = optional(options.queue.as_ref().map(queue));
    let limits = options.limits.iter().map(limit);
    let schedule = optional(options.schedule.as_ref().map(schedule));
    let on_cancel = options.on_cancel;
    let scheduled = options.scheduled || options.schedule.is_some();
    let line = quote_spanned!(place=> ::core::line!());
    quote! {
        ::dormouse::__private::Options {
            description: #description,
            source: ::core::concat!(::core::file!(), ":", #line),
            retry: #retry,
            queue: #queue,
            limits: &[#(#limits),*],
            machine: #machine,
            max_duration_ms: #max_duration,
            ttl_ms: #ttl,
            on_cancel: #on_cancel,
            scheduled: #scheduled,
            schedule: #schedule,
        }
    }
}

fn retry(retry: &Retry) -> TokenStream {
    let Retry { max_attempts, factor, min_timeout, max_timeout, randomize, out_of_memory_machine } = retry;
    let out_of_memory_machine = optional(out_of_memory_machine.as_ref());
    quote! {
        ::dormouse::__private::Retry {
            max_attempts: #max_attempts,
            factor: #factor,
            min_timeout_ms: #min_timeout,
            max_timeout_ms: #max_timeout,
            randomize: #randomize,
            out_of_memory_machine: #out_of_memory_machine,
        }
    }
}

fn queue(queue: &Queue) -> TokenStream {
    let name = optional(queue.name.as_ref());
    let concurrency = optional(queue.concurrency);
    quote!(::dormouse::__private::Queue { name: #name, concurrency: #concurrency })
}

fn limit(limit: &Limit) -> TokenStream {
    let name = optional(limit.name.as_ref());
    let (total, per_key) = (optional(limit.total), optional(limit.per_key));
    quote!(::dormouse::__private::Limit { name: #name, total: #total, per_key: #per_key })
}

fn schedule(schedule: &Schedule) -> TokenStream {
    let Schedule { cron, timezone, environments, .. } = schedule;
    let window = optional(schedule.window);
    quote! {
        ::dormouse::__private::Schedule {
            cron: #cron,
            timezone: #timezone,
            environments: &[#(#environments),*],
            window_ms: #window,
        }
    }
}

fn optional(value: Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

#[cfg(test)]
mod tests {
    use syn::{ItemFn, parse_str};

    use crate::options::Options;

    fn expand(attribute: &str, function: &str) -> Result<String, String> {
        let options: Options = parse_str(attribute).unwrap();
        let function: ItemFn = parse_str(function).unwrap();
        super::task(&options, &function).map(|tokens| tokens.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_task_keeps_its_function_and_gains_an_implementation_of_the_same_name() {
        let items = expand(r#"id = "say-hello""#, "pub fn hello(payload: Hello) -> Out { todo() }").unwrap();
        for part in
            ["pub fn hello (payload : Hello)", "pub enum hello { }", "impl :: dormouse :: Task for hello", "\"say-hello\""]
        {
            assert!(items.contains(part), "{part} in {items}");
        }
    }

    #[test]
    fn a_task_without_an_id_is_called_like_its_function() {
        assert!(expand("", "fn send_email() {}").unwrap().contains("\"send-email\""));
        assert!(expand("", "fn r#match() {}").unwrap().contains("\"match\""));
    }

    #[test]
    fn a_task_with_a_schedule_is_a_scheduled_one() {
        let items =
            expand(r#"schedule(cron = "0 9 * * *", environments(production))"#, "fn report(event: ScheduleEvent) {}").unwrap();
        for part in ["scheduled : true", "\"0 9 * * *\"", "\"UTC\"", "& [\"PRODUCTION\"]"] {
            assert!(items.contains(part), "{part} in {items}");
        }
        assert!(expand("scheduled", "fn report(event: ScheduleEvent) {}").unwrap().contains("scheduled : true"));
        assert!(expand("", "fn report() {}").unwrap().contains("scheduled : false"));
    }

    #[test]
    fn a_task_is_triggered_with_its_own_types() {
        let items = expand("", "fn f(payload: In) -> Result<Out, Bad> { todo() }").unwrap();
        assert!(items.contains("fn trigger_and_wait (payload : & In)"), "{items}");
        assert!(items.contains("TaskResult < Out >"), "{items}");
        let items = expand("", "fn f() -> anyhow::Result<Vec<u8>> { todo() }").unwrap();
        assert!(items.contains("fn batch_trigger (payloads : & [()])") && items.contains("TaskResult < Vec < u8 > >"), "{items}");
        assert!(expand("", "fn f() {}").unwrap().contains("TaskResult < () >"));
    }

    #[test]
    fn functions_that_cannot_be_tasks_are_refused() {
        for (function, reason) in [
            ("async fn f() {}", "blocking"),
            ("fn f<T>(payload: T) {}", "generic"),
            ("fn f(a: u8, b: u8) {}", "one payload"),
            ("fn f(&self) {}", "free function"),
        ] {
            let error = expand("", function).expect_err(function);
            assert!(error.contains(reason), "{function}: {error}");
        }
    }
}
