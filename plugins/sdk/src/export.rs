/// Makes a library loadable: `export_plugins! { transform "mask" => Mask: "Masks digits", sink "log" => Log: "..." }`.
/// Names are `[a-z0-9][a-z0-9_-]{0,63}`; the text is the one-line description.
#[macro_export]
macro_rules! export_plugins {
    ($($kind:ident $name:literal => $plugin:ty : $description:literal),+ $(,)?) => {
        #[cfg(not(panic = "unwind"))]
        compile_error!("a Weir plugin needs panic = \"unwind\": an abort in a plugin would end the host");

        #[doc(hidden)]
        #[allow(unsafe_code)]
        mod __weir_plugin {
            use super::*;
            use $crate::api;
            use $crate::api::abi_stable;
            use abi_stable::prefix_type::WithMetadata;
            use abi_stable::std_types::{ROption, RSlice, RStr};

            $(const _: () = assert!(
                api::is_legal_name($name),
                "a plugin's name is 1 to 64 of a-z, 0-9, '-' and '_', and starts with a letter or digit"
            );)+

            const MANIFEST_PARTS: &[&str] = &[
                "manifest=1\napi=", api::API_VERSION,
                "\nsdk=", $crate::shim::SDK_VERSION,
                "\nrustc=", $crate::shim::RUSTC,
                "\npanic=unwind",
                "\ncrate=", env!("CARGO_PKG_NAME"),
                "\nversion=", env!("CARGO_PKG_VERSION"),
                $("\nplugin=", stringify!($kind), ":", $name,)+
                "\n",
            ];

            #[used]
            #[unsafe(link_section = ".weir_plugin")]
            static MANIFEST: [u8; api::manifest_len(MANIFEST_PARTS)] = api::manifest_bytes(MANIFEST_PARTS);

            static PLUGINS: &[api::PluginDeclRef] = &[$({
                const DECLARATION: &WithMetadata<api::PluginDecl> =
                    &WithMetadata::new($crate::__declare_plugin!($kind, $name, $plugin, $description));
                api::PluginDeclRef(DECLARATION.static_as_prefix())
            }),+];

            const MODULE: &WithMetadata<api::PluginModule> = &WithMetadata::new(api::PluginModule {
                api_version: RStr::from_str(api::API_VERSION),
                manifest: RSlice::from_slice(&MANIFEST),
                plugins: RSlice::from_slice(PLUGINS),
            });

            fn module() -> api::PluginModuleRef {
                $crate::shim::install_panic_hook();
                api::PluginModuleRef(MODULE.static_as_prefix())
            }

            extern "C" fn root_module() -> abi_stable::library::RootModuleResult {
                abi_stable::library::__call_root_module_loader(module)
            }

            // What abi_stable's own export attribute expands to; written out so that a plugin crate needs no
            // dependency on abi_stable. SAFETY: `root_module` answers a `PluginModuleRef`.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: abi_stable::library::LibHeader = unsafe {
                abi_stable::library::LibHeader::from_constructor::<api::PluginModuleRef>(
                    root_module,
                    abi_stable::library::CheckTypeLayout::Yes,
                )
            };
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __declare_plugin {
    (transform, $name:literal, $plugin:ty, $description:literal) => {
        $crate::api::PluginDecl {
            name: RStr::from_str($name),
            version: RStr::from_str(env!("CARGO_PKG_VERSION")),
            description: RStr::from_str($description),
            kind: $crate::api::plugin_kind::TRANSFORM,
            config_schema: $crate::shim::schema::<<$plugin as $crate::Transform>::Config>,
            validate: $crate::shim::validate_transform::<$plugin>,
            describe: $crate::shim::describe_transform::<$plugin>,
            check_target: $crate::shim::no_target,
            create_transform: ROption::RSome($crate::shim::create_transform::<$plugin>),
            create_sink: ROption::RNone,
        }
    };
    (sink, $name:literal, $plugin:ty, $description:literal) => {
        $crate::api::PluginDecl {
            name: RStr::from_str($name),
            version: RStr::from_str(env!("CARGO_PKG_VERSION")),
            description: RStr::from_str($description),
            kind: $crate::api::plugin_kind::SINK,
            config_schema: $crate::shim::schema::<<$plugin as $crate::Sink>::Config>,
            validate: $crate::shim::validate_sink::<$plugin>,
            describe: $crate::shim::describe_sink::<$plugin>,
            check_target: $crate::shim::check_target::<$plugin>,
            create_transform: ROption::RNone,
            create_sink: ROption::RSome($crate::shim::create_sink::<$plugin>),
        }
    };
}
