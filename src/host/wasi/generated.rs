//! WASI 0.2 over numbers in place of handles: one shim for each function.
//!
//! Written by `tests/wasi_shims`, which also holds it to what wasmtime-wasi-http ships; not to be changed by hand.

use serde::{Deserialize, Serialize};
use wasmtime::{
    StoreContextMut,
    component::{Linker, LinkerInstance, Resource, ResourceType},
};
use wasmtime_wasi::{
    cli::WasiCliView,
    clocks::WasiClocksView,
    filesystem::WasiFilesystemView,
    p2::bindings::{cli, clocks, filesystem, io, random, sockets},
    sockets::WasiSocketsView,
};
use wasmtime_wasi_http::{WasiHttpView, p2::bindings::http};

use super::ids::Reopen;
use crate::host::HostState;

type Store<'a> = StoreContextMut<'a, HostState>;

fn link_cli_environment(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-environment", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = cli::environment::Host::get_environment(&mut state.cli())?;
        Ok((value,))
    })?;
    instance.func_wrap("get-arguments", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = cli::environment::Host::get_arguments(&mut state.cli())?;
        Ok((value,))
    })?;
    instance.func_wrap("initial-cwd", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = cli::environment::Host::initial_cwd(&mut state.cli())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_cli_exit(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("exit", |mut store: Store<'_>, (a0,): (Result<(), ()>,)| {
        let state = store.data_mut();
        cli::exit::Host::exit(&mut state.cli(), a0)?;
        Ok(())
    })?;
    instance.func_wrap("exit-with-code", |mut store: Store<'_>, (a0,): (u8,)| {
        let state = store.data_mut();
        cli::exit::Host::exit_with_code(&mut state.cli(), a0)?;
        Ok(())
    })?;
    Ok(())
}

fn link_cli_stderr(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-stderr", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Stderr;
        let value = cli::stderr::Host::get_stderr(&mut state.cli())?;
        let value = state.ids.put(value.rep(), Kind::OutputStream, reopen.clone())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_cli_stdin(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-stdin", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Stdin;
        let value = cli::stdin::Host::get_stdin(&mut state.cli())?;
        let value = state.ids.put(value.rep(), Kind::InputStream, reopen.clone())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_cli_stdout(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-stdout", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Stdout;
        let value = cli::stdout::Host::get_stdout(&mut state.cli())?;
        let value = state.ids.put(value.rep(), Kind::OutputStream, reopen.clone())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_cli_terminal_input(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("terminal-input", ResourceType::host::<cli::terminal_input::TerminalInput>(), |_, _| Ok(()))?;
    Ok(())
}

fn link_cli_terminal_output(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("terminal-output", ResourceType::host::<cli::terminal_output::TerminalOutput>(), |_, _| Ok(()))?;
    Ok(())
}

fn link_cli_terminal_stderr(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-terminal-stderr", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let value = cli::terminal_stderr::Host::get_terminal_stderr(&mut state.cli())?;
        let value = match value { Some(one) => Some(state.ids.put(one.rep(), Kind::TerminalOutput, reopen.clone())?), None => None };
        Ok((value,))
    })?;
    Ok(())
}

fn link_cli_terminal_stdin(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-terminal-stdin", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let value = cli::terminal_stdin::Host::get_terminal_stdin(&mut state.cli())?;
        let value = match value { Some(one) => Some(state.ids.put(one.rep(), Kind::TerminalInput, reopen.clone())?), None => None };
        Ok((value,))
    })?;
    Ok(())
}

fn link_cli_terminal_stdout(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-terminal-stdout", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let value = cli::terminal_stdout::Host::get_terminal_stdout(&mut state.cli())?;
        let value = match value { Some(one) => Some(state.ids.put(one.rep(), Kind::TerminalOutput, reopen.clone())?), None => None };
        Ok((value,))
    })?;
    Ok(())
}

fn link_clocks_monotonic_clock(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("now", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = clocks::monotonic_clock::Host::now(&mut state.clocks())?;
        Ok((value,))
    })?;
    instance.func_wrap("resolution", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = clocks::monotonic_clock::Host::resolution(&mut state.clocks())?;
        Ok((value,))
    })?;
    instance.func_wrap("subscribe-instant", |mut store: Store<'_>, (a0,): (u64,)| {
        let state = store.data_mut();
        let reopen = Reopen::Timer(a0);
        let value = clocks::monotonic_clock::Host::subscribe_instant(&mut state.clocks(), a0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("subscribe-duration", |mut store: Store<'_>, (a0,): (u64,)| {
        let state = store.data_mut();
        let reopen = Reopen::Timer(state.clock.now().saturating_add(a0));
        let value = clocks::monotonic_clock::Host::subscribe_duration(&mut state.clocks(), a0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_clocks_wall_clock(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("now", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = clocks::wall_clock::Host::now(&mut state.clocks())?;
        Ok((value,))
    })?;
    instance.func_wrap("resolution", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = clocks::wall_clock::Host::resolution(&mut state.clocks())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_filesystem_preopens(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-directories", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = state.preopen()?;
        let value = filesystem::preopens::Host::get_directories(&mut state.filesystem())?;
        let value = value.into_iter().enumerate().map(|(place, one)| Ok((state.ids.put(one.0.rep(), Kind::Descriptor, reopen.nth(place))?, one.1))).collect::<wasmtime::Result<Vec<_>>>()?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_filesystem_types(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("descriptor", ResourceType::host::<filesystem::types::Descriptor>(), |_, _| Ok(()))?;
    instance.resource("directory-entry-stream", ResourceType::host::<filesystem::types::DirectoryEntryStream>(), |_, _| Ok(()))?;
    instance.func_wrap("m-descriptor-x-read-via-stream", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let reopen = state.of_file(a0, |file| Reopen::Read(file, a1));
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::read_via_stream(&mut state.filesystem(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::InputStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-descriptor-x-write-via-stream", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let reopen = state.of_file(a0, |file| Reopen::Write(file, a1));
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::write_via_stream(&mut state.filesystem(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::OutputStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-descriptor-x-append-via-stream", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = state.of_file(a0, Reopen::Append);
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::append_via_stream(&mut state.filesystem(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::OutputStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-descriptor-x-advise", |mut store: Store<'_>, (a0, a1, a2, a3): (u32, u64, u64, filesystem::types::Advice)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::advise(&mut state.filesystem(), h0, a1, a2, a3).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-sync-data", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::sync_data(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-get-flags", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::get_flags(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-get-type", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::get_type(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-set-size", |mut store: Store<'_>, (a0, a1): (u32, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::set_size(&mut state.filesystem(), h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-set-times", |mut store: Store<'_>, (a0, a1, a2): (u32, filesystem::types::NewTimestamp, filesystem::types::NewTimestamp)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::set_times(&mut state.filesystem(), h0, a1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-read", |mut store: Store<'_>, (a0, a1, a2): (u32, u64, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::read(&mut state.filesystem(), h0, a1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-write", |mut store: Store<'_>, (a0, a1, a2): (u32, Vec<u8>, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::write(&mut state.filesystem(), h0, a1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-read-directory", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let reopen = state.of_file(a0, |directory| Reopen::Entries(directory, 0));
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = super::files::read_directory(state, h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::DirectoryEntryStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-sync", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::sync(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-create-directory-at", |mut store: Store<'_>, (a0, a1): (u32, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::create_directory_at(&mut state.filesystem(), h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-stat", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::stat(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-stat-at", |mut store: Store<'_>, (a0, a1, a2): (u32, filesystem::types::PathFlags, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::stat_at(&mut state.filesystem(), h0, a1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-set-times-at", |mut store: Store<'_>, (a0, a1, a2, a3, a4): (u32, filesystem::types::PathFlags, String, filesystem::types::NewTimestamp, filesystem::types::NewTimestamp)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::set_times_at(&mut state.filesystem(), h0, a1, a2, a3, a4).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-link-at", |mut store: Store<'_>, (a0, a1, a2, a3, a4): (u32, filesystem::types::PathFlags, String, u32, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let h3 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a3, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::link_at(&mut state.filesystem(), h0, a1, a2, h3, a4).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-open-at", |mut store: Store<'_>, (a0, a1, a2, a3, a4): (u32, filesystem::types::PathFlags, String, filesystem::types::OpenFlags, filesystem::types::DescriptorFlags)| { Box::new(async move {
        let state = store.data_mut();
        let reopen = state.ids.file_at(a0, a1, &a2, a3, a4);
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = super::files::open_at(state, h0, a1, a2, a3, a4).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::Descriptor, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-readlink-at", |mut store: Store<'_>, (a0, a1): (u32, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::readlink_at(&mut state.filesystem(), h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-remove-directory-at", |mut store: Store<'_>, (a0, a1): (u32, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::remove_directory_at(&mut state.filesystem(), h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-rename-at", |mut store: Store<'_>, (a0, a1, a2, a3): (u32, String, u32, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let h2 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a2, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::rename_at(&mut state.filesystem(), h0, a1, h2, a3).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-symlink-at", |mut store: Store<'_>, (a0, a1, a2): (u32, String, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::symlink_at(&mut state.filesystem(), h0, a1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-unlink-file-at", |mut store: Store<'_>, (a0, a1): (u32, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::unlink_file_at(&mut state.filesystem(), h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-is-same-object", |mut store: Store<'_>, (a0, a1): (u32, u32)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let h1 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a1, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::is_same_object(&mut state.filesystem(), h0, h1).await?;
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-metadata-hash", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::metadata_hash(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-descriptor-x-metadata-hash-at", |mut store: Store<'_>, (a0, a1, a2): (u32, filesystem::types::PathFlags, String)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::Descriptor>::new_borrow(state.ids.borrow(a0, Kind::Descriptor)?);
        let value = filesystem::types::HostDescriptor::metadata_hash_at(&mut state.filesystem(), h0, a1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-directory-entry-stream-x-read-directory-entry", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<filesystem::types::DirectoryEntryStream>::new_borrow(state.ids.borrow(a0, Kind::DirectoryEntryStream)?);
        let value = filesystem::types::HostDirectoryEntryStream::read_directory_entry(&mut state.filesystem(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(filesystem::types::Host::convert_error_code(&mut state.filesystem(), error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, value.is_some() as u64);
        }
        Ok((value,))
    }) })?;
    instance.func_wrap("filesystem-error-code", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<io::error::Error>::new_borrow(state.ids.borrow(a0, Kind::Error)?);
        let value = filesystem::types::Host::filesystem_error_code(&mut state.filesystem(), h0)?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_http_outgoing_handler(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("handle", |mut store: Store<'_>, (a0, a1): (u32, Option<u32>)| {
        let state = store.data_mut();
        let reopen = state.begin_exchange();
        let h0 = Resource::<http::types::OutgoingRequest>::new_own(state.ids.take(a0, Kind::OutgoingRequest)?);
        let h1 = match a1 { Some(one) => Some(Resource::<http::types::RequestOptions>::new_own(state.ids.take(one, Kind::RequestOptions)?)), None => None };
        let value = crate::host::http::handle(state, h0, h1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_error_code(&mut state.http(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::FutureIncomingResponse, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    Ok(())
}

fn link_http_types(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("fields", ResourceType::host::<http::types::Fields>(), |_, _| Ok(()))?;
    instance.resource("incoming-request", ResourceType::host::<http::types::IncomingRequest>(), |_, _| Ok(()))?;
    instance.resource("outgoing-request", ResourceType::host::<http::types::OutgoingRequest>(), |_, _| Ok(()))?;
    instance.resource("request-options", ResourceType::host::<http::types::RequestOptions>(), |_, _| Ok(()))?;
    instance.resource("response-outparam", ResourceType::host::<http::types::ResponseOutparam>(), |_, _| Ok(()))?;
    instance.resource("incoming-response", ResourceType::host::<http::types::IncomingResponse>(), |_, _| Ok(()))?;
    instance.resource("incoming-body", ResourceType::host::<http::types::IncomingBody>(), |_, _| Ok(()))?;
    instance.resource("future-trailers", ResourceType::host::<http::types::FutureTrailers>(), |_, _| Ok(()))?;
    instance.resource("outgoing-response", ResourceType::host::<http::types::OutgoingResponse>(), |_, _| Ok(()))?;
    instance.resource("outgoing-body", ResourceType::host::<http::types::OutgoingBody>(), |_, _| Ok(()))?;
    instance.resource("future-incoming-response", ResourceType::host::<http::types::FutureIncomingResponse>(), |_, _| Ok(()))?;
    instance.func_wrap("c-fields", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::fields(true);
        let value = http::types::HostFields::new(&mut state.http())?;
        let value = state.ids.put(value.rep(), Kind::Fields, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("s-fields-x-from-list", |mut store: Store<'_>, (a0,): (Vec<(String, Vec<u8>)>,)| {
        let state = store.data_mut();
        let reopen = Reopen::fields(true);
        let value = http::types::HostFields::from_list(&mut state.http(), a0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_header_error(&mut state.http(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::Fields, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-get", |mut store: Store<'_>, (a0, a1): (u32, String)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::get(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-has", |mut store: Store<'_>, (a0, a1): (u32, String)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::has(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-set", |mut store: Store<'_>, (a0, a1, a2): (u32, String, Vec<Vec<u8>>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::set(&mut state.http(), h0, a1, a2);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_header_error(&mut state.http(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-delete", |mut store: Store<'_>, (a0, a1): (u32, String)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::delete(&mut state.http(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_header_error(&mut state.http(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-append", |mut store: Store<'_>, (a0, a1, a2): (u32, String, Vec<u8>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::append(&mut state.http(), h0, a1, a2);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_header_error(&mut state.http(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-entries", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::entries(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-fields-x-clone", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::fields(true);
        let h0 = Resource::<http::types::Fields>::new_borrow(state.ids.borrow(a0, Kind::Fields)?);
        let value = http::types::HostFields::clone(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Fields, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-request-x-method", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::IncomingRequest>::new_borrow(state.ids.borrow(a0, Kind::IncomingRequest)?);
        let value = http::types::HostIncomingRequest::method(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-request-x-path-with-query", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::IncomingRequest>::new_borrow(state.ids.borrow(a0, Kind::IncomingRequest)?);
        let value = http::types::HostIncomingRequest::path_with_query(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-request-x-scheme", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::IncomingRequest>::new_borrow(state.ids.borrow(a0, Kind::IncomingRequest)?);
        let value = http::types::HostIncomingRequest::scheme(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-request-x-authority", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::IncomingRequest>::new_borrow(state.ids.borrow(a0, Kind::IncomingRequest)?);
        let value = http::types::HostIncomingRequest::authority(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-request-x-headers", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::IncomingRequest>::new_borrow(state.ids.borrow(a0, Kind::IncomingRequest)?);
        let value = http::types::HostIncomingRequest::headers(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Fields, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-request-x-consume", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::IncomingRequest>::new_borrow(state.ids.borrow(a0, Kind::IncomingRequest)?);
        let value = http::types::HostIncomingRequest::consume(&mut state.http(), h0)?;
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::IncomingBody, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("c-outgoing-request", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::Fields>::new_own(state.ids.take(a0, Kind::Fields)?);
        let value = http::types::HostOutgoingRequest::new(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::OutgoingRequest, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-body", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::body(&mut state.http(), h0)?;
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::OutgoingBody, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-method", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::method(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-set-method", |mut store: Store<'_>, (a0, a1): (u32, http::types::Method)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::set_method(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-path-with-query", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::path_with_query(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-set-path-with-query", |mut store: Store<'_>, (a0, a1): (u32, Option<String>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::set_path_with_query(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-scheme", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::scheme(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-set-scheme", |mut store: Store<'_>, (a0, a1): (u32, Option<http::types::Scheme>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::set_scheme(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-authority", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::authority(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-set-authority", |mut store: Store<'_>, (a0, a1): (u32, Option<String>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::set_authority(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-request-x-headers", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::fields(false);
        let h0 = Resource::<http::types::OutgoingRequest>::new_borrow(state.ids.borrow(a0, Kind::OutgoingRequest)?);
        let value = http::types::HostOutgoingRequest::headers(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Fields, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("c-request-options", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let value = http::types::HostRequestOptions::new(&mut state.http())?;
        let value = state.ids.put(value.rep(), Kind::RequestOptions, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-request-options-x-connect-timeout", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::RequestOptions>::new_borrow(state.ids.borrow(a0, Kind::RequestOptions)?);
        let value = http::types::HostRequestOptions::connect_timeout(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-request-options-x-set-connect-timeout", |mut store: Store<'_>, (a0, a1): (u32, Option<u64>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::RequestOptions>::new_borrow(state.ids.borrow(a0, Kind::RequestOptions)?);
        let value = http::types::HostRequestOptions::set_connect_timeout(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-request-options-x-first-byte-timeout", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::RequestOptions>::new_borrow(state.ids.borrow(a0, Kind::RequestOptions)?);
        let value = http::types::HostRequestOptions::first_byte_timeout(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-request-options-x-set-first-byte-timeout", |mut store: Store<'_>, (a0, a1): (u32, Option<u64>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::RequestOptions>::new_borrow(state.ids.borrow(a0, Kind::RequestOptions)?);
        let value = http::types::HostRequestOptions::set_first_byte_timeout(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-request-options-x-between-bytes-timeout", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::RequestOptions>::new_borrow(state.ids.borrow(a0, Kind::RequestOptions)?);
        let value = http::types::HostRequestOptions::between_bytes_timeout(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-request-options-x-set-between-bytes-timeout", |mut store: Store<'_>, (a0, a1): (u32, Option<u64>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::RequestOptions>::new_borrow(state.ids.borrow(a0, Kind::RequestOptions)?);
        let value = http::types::HostRequestOptions::set_between_bytes_timeout(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-response-outparam-x-send-informational", |mut store: Store<'_>, (a0, a1, a2): (u32, u16, u32)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::ResponseOutparam>::new_borrow(state.ids.borrow(a0, Kind::ResponseOutparam)?);
        let h2 = Resource::<http::types::Fields>::new_own(state.ids.take(a2, Kind::Fields)?);
        let value = http::types::HostResponseOutparam::send_informational(&mut state.http(), h0, a1, h2);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_error_code(&mut state.http(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("s-response-outparam-x-set", |mut store: Store<'_>, (a0, a1): (u32, Result<u32, http::types::ErrorCode>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::ResponseOutparam>::new_own(state.ids.take(a0, Kind::ResponseOutparam)?);
        let h1 = match a1 { Ok(one) => Ok(Resource::<http::types::OutgoingResponse>::new_own(state.ids.take(one, Kind::OutgoingResponse)?)), Err(one) => Err(one) };
        http::types::HostResponseOutparam::set(&mut state.http(), h0, h1)?;
        Ok(())
    })?;
    instance.func_wrap("m-incoming-response-x-status", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::IncomingResponse>::new_borrow(state.ids.borrow(a0, Kind::IncomingResponse)?);
        let value = http::types::HostIncomingResponse::status(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-response-x-headers", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::fields(false);
        let h0 = Resource::<http::types::IncomingResponse>::new_borrow(state.ids.borrow(a0, Kind::IncomingResponse)?);
        let value = http::types::HostIncomingResponse::headers(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Fields, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-response-x-consume", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = state.ids.exchange_of(a0);
        let h0 = Resource::<http::types::IncomingResponse>::new_borrow(state.ids.borrow(a0, Kind::IncomingResponse)?);
        let value = http::types::HostIncomingResponse::consume(&mut state.http(), h0)?;
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::IncomingBody, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-body-x-stream", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = state.ids.exchange_of(a0);
        let h0 = Resource::<http::types::IncomingBody>::new_borrow(state.ids.borrow(a0, Kind::IncomingBody)?);
        let value = http::types::HostIncomingBody::stream(&mut state.http(), h0)?;
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::InputStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("s-incoming-body-x-finish", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = state.ids.exchange_of(a0);
        let h0 = Resource::<http::types::IncomingBody>::new_own(state.ids.take(a0, Kind::IncomingBody)?);
        let value = http::types::HostIncomingBody::finish(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::FutureTrailers, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-future-trailers-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<http::types::FutureTrailers>::new_borrow(state.ids.borrow(a0, Kind::FutureTrailers)?);
        let value = http::types::HostFutureTrailers::subscribe(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-future-trailers-x-get", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::fields(false);
        let h0 = Resource::<http::types::FutureTrailers>::new_borrow(state.ids.borrow(a0, Kind::FutureTrailers)?);
        let value = http::types::HostFutureTrailers::get(&mut state.http(), h0)?;
        let value = match value { Some(one) => Some(match one {
            Ok(value) => Ok(match value {
            Ok(value) => Ok(match value { Some(one) => Some(state.ids.put(one.rep(), Kind::Fields, reopen.clone())?), None => None }),
            Err(error) => Err(error),
        }),
            Err(error) => Err(error),
        }), None => None };
        Ok((value,))
    })?;
    instance.func_wrap("c-outgoing-response", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::Fields>::new_own(state.ids.take(a0, Kind::Fields)?);
        let value = http::types::HostOutgoingResponse::new(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::OutgoingResponse, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-response-x-status-code", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingResponse>::new_borrow(state.ids.borrow(a0, Kind::OutgoingResponse)?);
        let value = http::types::HostOutgoingResponse::status_code(&mut state.http(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-response-x-set-status-code", |mut store: Store<'_>, (a0, a1): (u32, u16)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingResponse>::new_borrow(state.ids.borrow(a0, Kind::OutgoingResponse)?);
        let value = http::types::HostOutgoingResponse::set_status_code(&mut state.http(), h0, a1)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-response-x-headers", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::OutgoingResponse>::new_borrow(state.ids.borrow(a0, Kind::OutgoingResponse)?);
        let value = http::types::HostOutgoingResponse::headers(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Fields, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-response-x-body", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::OutgoingResponse>::new_borrow(state.ids.borrow(a0, Kind::OutgoingResponse)?);
        let value = http::types::HostOutgoingResponse::body(&mut state.http(), h0)?;
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::OutgoingBody, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-body-x-write", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<http::types::OutgoingBody>::new_borrow(state.ids.borrow(a0, Kind::OutgoingBody)?);
        let value = http::types::HostOutgoingBody::write(&mut state.http(), h0)?;
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::OutputStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("s-outgoing-body-x-finish", |mut store: Store<'_>, (a0, a1): (u32, Option<u32>)| {
        let state = store.data_mut();
        let h0 = Resource::<http::types::OutgoingBody>::new_own(state.ids.take(a0, Kind::OutgoingBody)?);
        let h1 = match a1 { Some(one) => Some(Resource::<http::types::Fields>::new_own(state.ids.take(one, Kind::Fields)?)), None => None };
        let value = http::types::HostOutgoingBody::finish(&mut state.http(), h0, h1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(http::types::Host::convert_error_code(&mut state.http(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-future-incoming-response-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<http::types::FutureIncomingResponse>::new_borrow(state.ids.borrow(a0, Kind::FutureIncomingResponse)?);
        let value = http::types::HostFutureIncomingResponse::subscribe(&mut state.http(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-future-incoming-response-x-get", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = state.ids.exchange_of(a0);
        let h0 = Resource::<http::types::FutureIncomingResponse>::new_borrow(state.ids.borrow(a0, Kind::FutureIncomingResponse)?);
        let value = http::types::HostFutureIncomingResponse::get(&mut state.http(), h0)?;
        let value = match value { Some(one) => Some(match one {
            Ok(value) => Ok(match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::IncomingResponse, reopen.clone())?),
            Err(error) => Err(error),
        }),
            Err(error) => Err(error),
        }), None => None };
        Ok((value,))
    })?;
    instance.func_wrap("http-error-code", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<io::error::Error>::new_borrow(state.ids.borrow(a0, Kind::Error)?);
        let value = crate::host::http::error_code(state, h0)?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_io_error(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("error", ResourceType::host::<io::error::Error>(), |_, _| Ok(()))?;
    instance.func_wrap("m-error-x-to-debug-string", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<io::error::Error>::new_borrow(state.ids.borrow(a0, Kind::Error)?);
        let value = io::error::HostError::to_debug_string(&mut state.table, h0)?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_io_poll(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("pollable", ResourceType::host::<io::poll::Pollable>(), |_, _| Ok(()))?;
    instance.func_wrap_async("m-pollable-x-ready", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::poll::Pollable>::new_borrow(state.ids.borrow(a0, Kind::Pollable)?);
        let value = io::poll::HostPollable::ready(&mut state.table, h0).await?;
        Ok((value,))
    }) })?;
    instance.func_wrap_async("m-pollable-x-block", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::poll::Pollable>::new_borrow(state.ids.borrow(a0, Kind::Pollable)?);
        io::poll::HostPollable::block(&mut state.table, h0).await?;
        Ok(())
    }) })?;
    instance.func_wrap_async("poll", |mut store: Store<'_>, (a0,): (Vec<u32>,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = a0.into_iter().map(|one| Ok(Resource::<io::poll::Pollable>::new_borrow(state.ids.borrow(one, Kind::Pollable)?))).collect::<wasmtime::Result<Vec<_>>>()?;
        let value = io::poll::Host::poll(&mut state.table, h0).await?;
        Ok((value,))
    }) })?;
    Ok(())
}

fn link_io_streams(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("input-stream", ResourceType::host::<io::streams::InputStream>(), |_, _| Ok(()))?;
    instance.resource("output-stream", ResourceType::host::<io::streams::OutputStream>(), |_, _| Ok(()))?;
    instance.func_wrap("m-input-stream-x-read", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a0, Kind::InputStream)?);
        let value = io::streams::HostInputStream::read(&mut state.table, h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, value.len() as u64);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-input-stream-x-blocking-read", |mut store: Store<'_>, (a0, a1): (u32, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a0, Kind::InputStream)?);
        let value = io::streams::HostInputStream::blocking_read(&mut state.table, h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, value.len() as u64);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-input-stream-x-skip", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a0, Kind::InputStream)?);
        let value = io::streams::HostInputStream::skip(&mut state.table, h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, *value);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-input-stream-x-blocking-skip", |mut store: Store<'_>, (a0, a1): (u32, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a0, Kind::InputStream)?);
        let value = io::streams::HostInputStream::blocking_skip(&mut state.table, h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, *value);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-input-stream-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a0, Kind::InputStream)?);
        let value = io::streams::HostInputStream::subscribe(&mut state.table, h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-output-stream-x-check-write", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::check_write(&mut state.table, h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-output-stream-x-write", |mut store: Store<'_>, (a0, a1): (u32, Vec<u8>)| {
        let state = store.data_mut();
        let length = a1.len() as u64;
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::write(&mut state.table, h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(()) = &value {
            state.ids.advance(a0, length);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-output-stream-x-blocking-write-and-flush", |mut store: Store<'_>, (a0, a1): (u32, Vec<u8>)| { Box::new(async move {
        let state = store.data_mut();
        let length = a1.len() as u64;
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::blocking_write_and_flush(&mut state.table, h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(()) = &value {
            state.ids.advance(a0, length);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-output-stream-x-flush", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::flush(&mut state.table, h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-output-stream-x-blocking-flush", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::blocking_flush(&mut state.table, h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-output-stream-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::subscribe(&mut state.table, h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-output-stream-x-write-zeroes", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::write_zeroes(&mut state.table, h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(()) = &value {
            state.ids.advance(a0, a1);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-output-stream-x-blocking-write-zeroes-and-flush", |mut store: Store<'_>, (a0, a1): (u32, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let value = io::streams::HostOutputStream::blocking_write_zeroes_and_flush(&mut state.table, h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(()) = &value {
            state.ids.advance(a0, a1);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-output-stream-x-splice", |mut store: Store<'_>, (a0, a1, a2): (u32, u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let h1 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a1, Kind::InputStream)?);
        let value = io::streams::HostOutputStream::splice(&mut state.table, h0, h1, a2);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, *value);
            state.ids.advance(a1, *value);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-output-stream-x-blocking-splice", |mut store: Store<'_>, (a0, a1, a2): (u32, u32, u64)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<io::streams::OutputStream>::new_borrow(state.ids.borrow(a0, Kind::OutputStream)?);
        let h1 = Resource::<io::streams::InputStream>::new_borrow(state.ids.borrow(a1, Kind::InputStream)?);
        let value = io::streams::HostOutputStream::blocking_splice(&mut state.table, h0, h1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(io::streams::Host::convert_stream_error(&mut state.table, error)?),
        };
        if let Ok(value) = &value {
            state.ids.advance(a0, *value);
            state.ids.advance(a1, *value);
        }
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(state.ids.put_stream_error(error)?),
        };
        Ok((value,))
    }) })?;
    Ok(())
}

fn link_random_insecure(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-insecure-random-bytes", |mut store: Store<'_>, (a0,): (u64,)| {
        let state = store.data_mut();
        let value = random::insecure::Host::get_insecure_random_bytes(state.wasi.random(), a0)?;
        Ok((value,))
    })?;
    instance.func_wrap("get-insecure-random-u64", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = random::insecure::Host::get_insecure_random_u64(state.wasi.random())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_random_insecure_seed(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("insecure-seed", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = random::insecure_seed::Host::insecure_seed(state.wasi.random())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_random_random(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-random-bytes", |mut store: Store<'_>, (a0,): (u64,)| {
        let state = store.data_mut();
        let value = random::random::Host::get_random_bytes(state.wasi.random(), a0)?;
        Ok((value,))
    })?;
    instance.func_wrap("get-random-u64", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let value = random::random::Host::get_random_u64(state.wasi.random())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_instance_network(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("instance-network", |mut store: Store<'_>, (): ()| {
        let state = store.data_mut();
        let reopen = Reopen::Network;
        let value = sockets::instance_network::Host::instance_network(&mut state.sockets())?;
        let value = state.ids.put(value.rep(), Kind::Network, reopen.clone())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_ip_name_lookup(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("resolve-address-stream", ResourceType::host::<sockets::ip_name_lookup::ResolveAddressStream>(), |_, _| Ok(()))?;
    instance.func_wrap("m-resolve-address-stream-x-resolve-next-address", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::ip_name_lookup::ResolveAddressStream>::new_borrow(state.ids.borrow(a0, Kind::ResolveAddressStream)?);
        let value = sockets::ip_name_lookup::HostResolveAddressStream::resolve_next_address(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-resolve-address-stream-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<sockets::ip_name_lookup::ResolveAddressStream>::new_borrow(state.ids.borrow(a0, Kind::ResolveAddressStream)?);
        let value = sockets::ip_name_lookup::HostResolveAddressStream::subscribe(&mut state.sockets(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("resolve-addresses", |mut store: Store<'_>, (a0, a1): (u32, String)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<sockets::network::Network>::new_borrow(state.ids.borrow(a0, Kind::Network)?);
        let value = sockets::ip_name_lookup::Host::resolve_addresses(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::ResolveAddressStream, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_network(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("network", ResourceType::host::<sockets::network::Network>(), |_, _| Ok(()))?;
    instance.func_wrap("network-error-code", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<io::error::Error>::new_borrow(state.ids.borrow(a0, Kind::Error)?);
        let value = sockets::network::Host::network_error_code(&mut state.sockets(), h0)?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_tcp(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("tcp-socket", ResourceType::host::<sockets::tcp::TcpSocket>(), |_, _| Ok(()))?;
    instance.func_wrap_async("m-tcp-socket-x-start-bind", |mut store: Store<'_>, (a0, a1, a2): (u32, u32, sockets::network::IpSocketAddress)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let h1 = Resource::<sockets::network::Network>::new_borrow(state.ids.borrow(a1, Kind::Network)?);
        let value = sockets::tcp::HostTcpSocket::start_bind(&mut state.sockets(), h0, h1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-tcp-socket-x-finish-bind", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::finish_bind(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-start-connect", |mut store: Store<'_>, (a0, a1, a2): (u32, u32, sockets::network::IpSocketAddress)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let h1 = Resource::<sockets::network::Network>::new_borrow(state.ids.borrow(a1, Kind::Network)?);
        let value = sockets::tcp::HostTcpSocket::start_connect(&mut state.sockets(), h0, h1, a2);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-finish-connect", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::finish_connect(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        let value = match value {
            Ok(value) => Ok((state.ids.put(value.0.rep(), Kind::InputStream, reopen.clone())?, state.ids.put(value.1.rep(), Kind::OutputStream, reopen.clone())?)),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-tcp-socket-x-start-listen", |mut store: Store<'_>, (a0,): (u32,)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::start_listen(&mut state.sockets(), h0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-tcp-socket-x-finish-listen", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::finish_listen(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-accept", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::accept(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        let value = match value {
            Ok(value) => Ok((state.ids.put(value.0.rep(), Kind::TcpSocket, reopen.clone())?, state.ids.put(value.1.rep(), Kind::InputStream, reopen.clone())?, state.ids.put(value.2.rep(), Kind::OutputStream, reopen.clone())?)),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-local-address", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::local_address(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-remote-address", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::remote_address(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-is-listening", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::is_listening(&mut state.sockets(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-address-family", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::address_family(&mut state.sockets(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-listen-backlog-size", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_listen_backlog_size(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-keep-alive-enabled", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::keep_alive_enabled(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-keep-alive-enabled", |mut store: Store<'_>, (a0, a1): (u32, bool)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_keep_alive_enabled(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-keep-alive-idle-time", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::keep_alive_idle_time(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-keep-alive-idle-time", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_keep_alive_idle_time(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-keep-alive-interval", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::keep_alive_interval(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-keep-alive-interval", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_keep_alive_interval(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-keep-alive-count", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::keep_alive_count(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-keep-alive-count", |mut store: Store<'_>, (a0, a1): (u32, u32)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_keep_alive_count(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-hop-limit", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::hop_limit(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-hop-limit", |mut store: Store<'_>, (a0, a1): (u32, u8)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_hop_limit(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-receive-buffer-size", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::receive_buffer_size(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-receive-buffer-size", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_receive_buffer_size(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-send-buffer-size", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::send_buffer_size(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-set-send-buffer-size", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::set_send_buffer_size(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::subscribe(&mut state.sockets(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-tcp-socket-x-shutdown", |mut store: Store<'_>, (a0, a1): (u32, sockets::tcp::ShutdownType)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::tcp::TcpSocket>::new_borrow(state.ids.borrow(a0, Kind::TcpSocket)?);
        let value = sockets::tcp::HostTcpSocket::shutdown(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_tcp_create_socket(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("create-tcp-socket", |mut store: Store<'_>, (a0,): (sockets::network::IpAddressFamily,)| {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let value = sockets::tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), a0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::TcpSocket, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_udp(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.resource("udp-socket", ResourceType::host::<sockets::udp::UdpSocket>(), |_, _| Ok(()))?;
    instance.resource("incoming-datagram-stream", ResourceType::host::<sockets::udp::IncomingDatagramStream>(), |_, _| Ok(()))?;
    instance.resource("outgoing-datagram-stream", ResourceType::host::<sockets::udp::OutgoingDatagramStream>(), |_, _| Ok(()))?;
    instance.func_wrap_async("m-udp-socket-x-start-bind", |mut store: Store<'_>, (a0, a1, a2): (u32, u32, sockets::network::IpSocketAddress)| { Box::new(async move {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let h1 = Resource::<sockets::network::Network>::new_borrow(state.ids.borrow(a1, Kind::Network)?);
        let value = sockets::udp::HostUdpSocket::start_bind(&mut state.sockets(), h0, h1, a2).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-udp-socket-x-finish-bind", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::finish_bind(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap_async("m-udp-socket-x-stream", |mut store: Store<'_>, (a0, a1): (u32, Option<sockets::network::IpSocketAddress>)| { Box::new(async move {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::stream(&mut state.sockets(), h0, a1).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        let value = match value {
            Ok(value) => Ok((state.ids.put(value.0.rep(), Kind::IncomingDatagramStream, reopen.clone())?, state.ids.put(value.1.rep(), Kind::OutgoingDatagramStream, reopen.clone())?)),
            Err(error) => Err(error),
        };
        Ok((value,))
    }) })?;
    instance.func_wrap("m-udp-socket-x-local-address", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::local_address(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-remote-address", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::remote_address(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-address-family", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::address_family(&mut state.sockets(), h0)?;
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-unicast-hop-limit", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::unicast_hop_limit(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-set-unicast-hop-limit", |mut store: Store<'_>, (a0, a1): (u32, u8)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::set_unicast_hop_limit(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-receive-buffer-size", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::receive_buffer_size(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-set-receive-buffer-size", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::set_receive_buffer_size(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-send-buffer-size", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::send_buffer_size(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-set-send-buffer-size", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::set_send_buffer_size(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-udp-socket-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<sockets::udp::UdpSocket>::new_borrow(state.ids.borrow(a0, Kind::UdpSocket)?);
        let value = sockets::udp::HostUdpSocket::subscribe(&mut state.sockets(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-datagram-stream-x-receive", |mut store: Store<'_>, (a0, a1): (u32, u64)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::IncomingDatagramStream>::new_borrow(state.ids.borrow(a0, Kind::IncomingDatagramStream)?);
        let value = sockets::udp::HostIncomingDatagramStream::receive(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-incoming-datagram-stream-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<sockets::udp::IncomingDatagramStream>::new_borrow(state.ids.borrow(a0, Kind::IncomingDatagramStream)?);
        let value = sockets::udp::HostIncomingDatagramStream::subscribe(&mut state.sockets(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-datagram-stream-x-check-send", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::OutgoingDatagramStream>::new_borrow(state.ids.borrow(a0, Kind::OutgoingDatagramStream)?);
        let value = sockets::udp::HostOutgoingDatagramStream::check_send(&mut state.sockets(), h0);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-datagram-stream-x-send", |mut store: Store<'_>, (a0, a1): (u32, Vec<sockets::udp::OutgoingDatagram>)| {
        let state = store.data_mut();
        let h0 = Resource::<sockets::udp::OutgoingDatagramStream>::new_borrow(state.ids.borrow(a0, Kind::OutgoingDatagramStream)?);
        let value = sockets::udp::HostOutgoingDatagramStream::send(&mut state.sockets(), h0, a1);
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        Ok((value,))
    })?;
    instance.func_wrap("m-outgoing-datagram-stream-x-subscribe", |mut store: Store<'_>, (a0,): (u32,)| {
        let state = store.data_mut();
        let reopen = Reopen::Child(a0);
        let h0 = Resource::<sockets::udp::OutgoingDatagramStream>::new_borrow(state.ids.borrow(a0, Kind::OutgoingDatagramStream)?);
        let value = sockets::udp::HostOutgoingDatagramStream::subscribe(&mut state.sockets(), h0)?;
        let value = state.ids.put(value.rep(), Kind::Pollable, reopen.clone())?;
        Ok((value,))
    })?;
    Ok(())
}

fn link_sockets_udp_create_socket(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap_async("create-udp-socket", |mut store: Store<'_>, (a0,): (sockets::network::IpAddressFamily,)| { Box::new(async move {
        let state = store.data_mut();
        let reopen = Reopen::Never;
        let value = sockets::udp_create_socket::Host::create_udp_socket(&mut state.sockets(), a0).await;
        let value = match value {
            Ok(value) => Ok(value),
            Err(error) => Err(sockets::network::Host::convert_error_code(&mut state.sockets(), error)?),
        };
        let value = match value {
            Ok(value) => Ok(state.ids.put(value.rep(), Kind::UdpSocket, reopen.clone())?),
            Err(error) => Err(error),
        };
        Ok((value,))
    }) })?;
    Ok(())
}

/// Registers an interface of WASI under the exact name it is imported by. False: it is not one of WASI 0.2.
pub(super) fn link(linker: &mut Linker<HostState>, import: &str) -> wasmtime::Result<bool> {
    let link = match import.split('@').next().unwrap_or(import) {
        "wasi:cli/environment" => link_cli_environment,
        "wasi:cli/exit" => link_cli_exit,
        "wasi:cli/stderr" => link_cli_stderr,
        "wasi:cli/stdin" => link_cli_stdin,
        "wasi:cli/stdout" => link_cli_stdout,
        "wasi:cli/terminal-input" => link_cli_terminal_input,
        "wasi:cli/terminal-output" => link_cli_terminal_output,
        "wasi:cli/terminal-stderr" => link_cli_terminal_stderr,
        "wasi:cli/terminal-stdin" => link_cli_terminal_stdin,
        "wasi:cli/terminal-stdout" => link_cli_terminal_stdout,
        "wasi:clocks/monotonic-clock" => link_clocks_monotonic_clock,
        "wasi:clocks/wall-clock" => link_clocks_wall_clock,
        "wasi:filesystem/preopens" => link_filesystem_preopens,
        "wasi:filesystem/types" => link_filesystem_types,
        "wasi:http/outgoing-handler" => link_http_outgoing_handler,
        "wasi:http/types" => link_http_types,
        "wasi:io/error" => link_io_error,
        "wasi:io/poll" => link_io_poll,
        "wasi:io/streams" => link_io_streams,
        "wasi:random/insecure" => link_random_insecure,
        "wasi:random/insecure-seed" => link_random_insecure_seed,
        "wasi:random/random" => link_random_random,
        "wasi:sockets/instance-network" => link_sockets_instance_network,
        "wasi:sockets/ip-name-lookup" => link_sockets_ip_name_lookup,
        "wasi:sockets/network" => link_sockets_network,
        "wasi:sockets/tcp" => link_sockets_tcp,
        "wasi:sockets/tcp-create-socket" => link_sockets_tcp_create_socket,
        "wasi:sockets/udp" => link_sockets_udp,
        "wasi:sockets/udp-create-socket" => link_sockets_udp_create_socket,
        _ => return Ok(false),
    };
    link(&mut linker.instance(import)?)?;
    Ok(true)
}

/// What a handle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `terminal-input` of `wasi:cli`.
    TerminalInput,
    /// `terminal-output` of `wasi:cli`.
    TerminalOutput,
    /// `descriptor` of `wasi:filesystem`.
    Descriptor,
    /// `directory-entry-stream` of `wasi:filesystem`.
    DirectoryEntryStream,
    /// `error` of `wasi:io`.
    Error,
    /// `pollable` of `wasi:io`.
    Pollable,
    /// `input-stream` of `wasi:io`.
    InputStream,
    /// `output-stream` of `wasi:io`.
    OutputStream,
    /// `resolve-address-stream` of `wasi:sockets`.
    ResolveAddressStream,
    /// `network` of `wasi:sockets`.
    Network,
    /// `tcp-socket` of `wasi:sockets`.
    TcpSocket,
    /// `udp-socket` of `wasi:sockets`.
    UdpSocket,
    /// `incoming-datagram-stream` of `wasi:sockets`.
    IncomingDatagramStream,
    /// `outgoing-datagram-stream` of `wasi:sockets`.
    OutgoingDatagramStream,
    /// `fields` of `wasi:http`.
    Fields,
    /// `incoming-request` of `wasi:http`.
    IncomingRequest,
    /// `outgoing-request` of `wasi:http`.
    OutgoingRequest,
    /// `request-options` of `wasi:http`.
    RequestOptions,
    /// `response-outparam` of `wasi:http`.
    ResponseOutparam,
    /// `incoming-response` of `wasi:http`.
    IncomingResponse,
    /// `incoming-body` of `wasi:http`.
    IncomingBody,
    /// `future-trailers` of `wasi:http`.
    FutureTrailers,
    /// `outgoing-response` of `wasi:http`.
    OutgoingResponse,
    /// `outgoing-body` of `wasi:http`.
    OutgoingBody,
    /// `future-incoming-response` of `wasi:http`.
    FutureIncomingResponse,
}

impl Kind {
    /// Its name in WIT.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TerminalInput => "terminal-input",
            Self::TerminalOutput => "terminal-output",
            Self::Descriptor => "descriptor",
            Self::DirectoryEntryStream => "directory-entry-stream",
            Self::Error => "error",
            Self::Pollable => "pollable",
            Self::InputStream => "input-stream",
            Self::OutputStream => "output-stream",
            Self::ResolveAddressStream => "resolve-address-stream",
            Self::Network => "network",
            Self::TcpSocket => "tcp-socket",
            Self::UdpSocket => "udp-socket",
            Self::IncomingDatagramStream => "incoming-datagram-stream",
            Self::OutgoingDatagramStream => "outgoing-datagram-stream",
            Self::Fields => "fields",
            Self::IncomingRequest => "incoming-request",
            Self::OutgoingRequest => "outgoing-request",
            Self::RequestOptions => "request-options",
            Self::ResponseOutparam => "response-outparam",
            Self::IncomingResponse => "incoming-response",
            Self::IncomingBody => "incoming-body",
            Self::FutureTrailers => "future-trailers",
            Self::OutgoingResponse => "outgoing-response",
            Self::OutgoingBody => "outgoing-body",
            Self::FutureIncomingResponse => "future-incoming-response",
        }
    }
}

/// Drops what is behind a handle.
pub(super) async fn delete(state: &mut HostState, kind: Kind, place: u32) -> wasmtime::Result<()> {
    match kind {
        Kind::TerminalInput => cli::terminal_input::HostTerminalInput::drop(&mut state.cli(), Resource::new_own(place)),
        Kind::TerminalOutput => cli::terminal_output::HostTerminalOutput::drop(&mut state.cli(), Resource::new_own(place)),
        Kind::Descriptor => filesystem::types::HostDescriptor::drop(&mut state.filesystem(), Resource::new_own(place)),
        Kind::DirectoryEntryStream => filesystem::types::HostDirectoryEntryStream::drop(&mut state.filesystem(), Resource::new_own(place)),
        Kind::Error => io::error::HostError::drop(&mut state.table, Resource::new_own(place)),
        Kind::Pollable => io::poll::HostPollable::drop(&mut state.table, Resource::new_own(place)),
        Kind::InputStream => io::streams::HostInputStream::drop(&mut state.table, Resource::new_own(place)).await,
        Kind::OutputStream => io::streams::HostOutputStream::drop(&mut state.table, Resource::new_own(place)).await,
        Kind::ResolveAddressStream => sockets::ip_name_lookup::HostResolveAddressStream::drop(&mut state.sockets(), Resource::new_own(place)),
        Kind::Network => sockets::network::HostNetwork::drop(&mut state.sockets(), Resource::new_own(place)),
        Kind::TcpSocket => sockets::tcp::HostTcpSocket::drop(&mut state.sockets(), Resource::new_own(place)),
        Kind::UdpSocket => sockets::udp::HostUdpSocket::drop(&mut state.sockets(), Resource::new_own(place)),
        Kind::IncomingDatagramStream => sockets::udp::HostIncomingDatagramStream::drop(&mut state.sockets(), Resource::new_own(place)),
        Kind::OutgoingDatagramStream => sockets::udp::HostOutgoingDatagramStream::drop(&mut state.sockets(), Resource::new_own(place)).await,
        Kind::Fields => http::types::HostFields::drop(&mut state.http(), Resource::new_own(place)),
        Kind::IncomingRequest => http::types::HostIncomingRequest::drop(&mut state.http(), Resource::new_own(place)),
        Kind::OutgoingRequest => http::types::HostOutgoingRequest::drop(&mut state.http(), Resource::new_own(place)),
        Kind::RequestOptions => http::types::HostRequestOptions::drop(&mut state.http(), Resource::new_own(place)),
        Kind::ResponseOutparam => http::types::HostResponseOutparam::drop(&mut state.http(), Resource::new_own(place)),
        Kind::IncomingResponse => http::types::HostIncomingResponse::drop(&mut state.http(), Resource::new_own(place)),
        Kind::IncomingBody => http::types::HostIncomingBody::drop(&mut state.http(), Resource::new_own(place)),
        Kind::FutureTrailers => http::types::HostFutureTrailers::drop(&mut state.http(), Resource::new_own(place)),
        Kind::OutgoingResponse => http::types::HostOutgoingResponse::drop(&mut state.http(), Resource::new_own(place)),
        Kind::OutgoingBody => http::types::HostOutgoingBody::drop(&mut state.http(), Resource::new_own(place)),
        Kind::FutureIncomingResponse => http::types::HostFutureIncomingResponse::drop(&mut state.http(), Resource::new_own(place)),
    }
}
