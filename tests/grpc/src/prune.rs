//! Takes out of descriptors what is not wanted: methods, the messages that only those reach, and fields by name.

use std::collections::HashSet;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// What is made.
pub(crate) struct Wanted {
    /// Services with their methods.
    pub(crate) methods: &'static [(&'static str, &'static [&'static str])],
    /// Messages that no method reaches: they come as `google.protobuf.Any`.
    pub(crate) messages: &'static [&'static str],
    /// Fields that nobody reads.
    pub(crate) without: &'static [&'static str],
}

/// `set` with what is wanted alone.
pub(crate) fn prune(mut set: FileDescriptorSet, wanted: &Wanted) -> FileDescriptorSet {
    let mut reached: HashSet<String> = wanted.messages.iter().map(|name| (*name).to_owned()).collect();
    for file in &mut set.file {
        let package = format!(".{}", file.package());
        for message in &mut file.message_type {
            drop_fields(&package, message, wanted.without);
        }
        file.service.retain_mut(|service| {
            let methods = wanted.methods.iter().find(|(name, _)| *name == service.name());
            let Some((_, methods)) = methods else { return false };
            service.method.retain(|method| methods.contains(&method.name()));
            assert_eq!(service.method.len(), methods.len(), "methods of {}", service.name());
            for method in &service.method {
                reached.extend([method.input_type().to_owned(), method.output_type().to_owned()]);
            }
            true
        });
    }
    let services: usize = set.file.iter().map(|file| file.service.len()).sum();
    assert_eq!(services, wanted.methods.len(), "all services are found");
    // Until nothing is added: what a message's fields are made of.
    loop {
        let before = reached.len();
        for file in &set.file {
            let package = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| reach(&package, message, &mut reached));
        }
        if reached.len() == before {
            break;
        }
    }
    for file in &mut set.file {
        let package = format!(".{}", file.package());
        if package == ".google.protobuf" {
            continue;
        }
        file.message_type.retain_mut(|message| keep(&package, message, &reached));
        file.enum_type.retain(|kind| is_reached(&package, kind, &reached));
        file.extension.clear();
        file.source_code_info = None;
    }
    set
}

fn drop_fields(of: &str, message: &mut DescriptorProto, without: &[&str]) {
    let name = format!("{of}.{}", message.name());
    message.field.retain(|field| !without.contains(&&*format!("{name}.{}", field.name())));
    message.nested_type.iter_mut().for_each(|nested| drop_fields(&name, nested, without));
}

fn reach(of: &str, message: &DescriptorProto, reached: &mut HashSet<String>) {
    let name = format!("{of}.{}", message.name());
    if reached.contains(&name) {
        reached.extend(message.field.iter().filter_map(|field| field.type_name.clone()));
    }
    message.nested_type.iter().for_each(|nested| reach(&name, nested, reached));
}

/// Whether `message` or one within it is wanted. One that is there for what is within it has no fields.
fn keep(of: &str, message: &mut DescriptorProto, reached: &HashSet<String>) -> bool {
    let name = format!("{of}.{}", message.name());
    message.nested_type.retain_mut(|nested| keep(&name, nested, reached));
    message.enum_type.retain(|kind| is_reached(&name, kind, reached));
    let wanted = reached.contains(&name);
    if !wanted {
        message.field.clear();
        message.oneof_decl.clear();
    }
    wanted || !message.nested_type.is_empty() || !message.enum_type.is_empty()
}

fn is_reached(of: &str, kind: &EnumDescriptorProto, reached: &HashSet<String>) -> bool {
    reached.contains(&format!("{of}.{}", kind.name()))
}
