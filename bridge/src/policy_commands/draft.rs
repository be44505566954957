//! The settings file for a server, with a rule for everything that it offers. Pure.

use std::collections::{BTreeMap, HashSet};

use super::{
    names::Names,
    words::{remark, toml, toml_key},
};
use crate::{
    config::{
        raw::Flags,
        settings::{ALL, Kind, Setting, is_for_starting},
    },
    offer::{About, Entry, Offer, Tool},
    policy::pattern_matches,
};

const HEAD: &str = "\
# Made by `mcp-bridge policy init` from what the server says about itself. Read it before you use it.
#
# Every tool, every prompt and every group of resources has a scope of its own; put several under one
# scope where your users need not tell them apart. What has no rule is denied.
#
# See what a user may do:  mcp-bridge policy check --config FILE --scopes \"SCOPE SCOPE\"
# Serve it:                mcp-bridge serve --config FILE
#
# Settings that say who the users are (issuer = \"https://…\" and others) belong above [policy], or into
# flags and the environment.
";

/// The file: the command as `flags` have it, and the policy.
pub(super) fn draft(flags: &Flags, offer: &Offer) -> String {
    let mut file = format!("{HEAD}\n");
    for setting in ALL.iter().filter(|setting| is_for_starting(setting)) {
        if let Some(texts) = flags.0.get(setting.key) {
            write_setting(&mut file, setting, texts);
        }
    }
    file.push_str("\n[policy]\n");
    let mut names = Names::default();
    tools(&mut file, &offer.tools, &mut names);
    prompts(&mut file, &offer.prompts, &mut names);
    resources(&mut file, offer, &mut names);
    words(&mut file, &names);
    file
}

/// What users are asked in so many words, where the bridge signs them in itself.
fn words(file: &mut String, names: &Names) {
    if names.words.is_empty() {
        return;
    }
    file.push_str("\n# What your users read when they are asked, if this bridge signs them in itself.\n[scopes]\n");
    for (scope, text) in &names.words {
        line(file, &format!("{} = {}", toml_key(scope), toml(text)));
    }
}

fn write_setting(file: &mut String, setting: &Setting, texts: &[String]) {
    let list = |texts: Vec<&str>| format!("[{}]", texts.into_iter().map(toml).collect::<Vec<_>>().join(", "));
    let value = match setting.kind {
        Kind::Variables => {
            if texts.iter().any(|text| text.contains('=')) {
                file.push_str("# Values are not written here, because they may be secrets: set the variables where the bridge runs.\n");
            }
            list(texts.iter().map(|text| text.split('=').next().unwrap_or_default()).collect())
        }
        Kind::Command | Kind::Many => list(texts.iter().map(String::as_str).collect()),
        _ => toml(&texts.concat()),
    };
    line(file, &format!("{} = {value}", setting.key));
}

fn tools(file: &mut String, tools: &[Tool], names: &mut Names) {
    let (tools, unnamed) = nameable(tools, |tool| &tool.name);
    heading(file, "Tools", !tools.is_empty());
    let scopes = names.give("tool", tools.iter().map(|tool| tool.name.as_str()));
    for (tool, scope) in tools.iter().zip(&scopes) {
        let hints = match (tool.destructive, tool.read_only) {
            (true, _) => "DESTRUCTIVE",
            (false, true) => "read-only",
            (false, false) => "",
        };
        rule(file, &about(hints, &tool.about), "tool", &tool.name, scope);
        names.describe(scope, &tool.about, &format!("Use the tool {}", tool.name));
        example(file, tool, names);
    }
    denied(file, "tool", &unnamed);
}

/// A rule for one value of an argument, for whoever wants to tell them apart.
fn example(file: &mut String, tool: &Tool, names: &mut Names) {
    let mut arguments = tool.arguments.iter().flatten();
    let Some((argument, choice)) = arguments.find_map(|found| Some((found, found.choices.first()?))) else { return };
    let scope = names.give("tool", [format!("{}:{choice}", tool.name).as_str()]).concat();
    let choices: Vec<String> = argument.choices.iter().take(8).map(|choice| toml(choice)).collect();
    let more = if argument.choices.len() > choices.len() { ", …" } else { "" };
    let choices = cut(&format!("{}{more}", choices.join(", ")));
    line(file, &format!("# On top of that, for one {} only ({choices}):", remark(&argument.name)));
    line(file, "#[[policy.rule]]");
    line(file, &format!("#tool = {}", toml(&tool.name)));
    line(file, &format!("#when = {{ {} = {} }}", toml_key(&argument.name), toml(choice)));
    line(file, &format!("#scopes = [{}]", toml(&scope)));
}

fn prompts(file: &mut String, prompts: &[Entry], names: &mut Names) {
    let (prompts, unnamed) = nameable(prompts, |prompt| &prompt.id);
    heading(file, "Prompts", !prompts.is_empty());
    let scopes = names.give("prompt", prompts.iter().map(|prompt| prompt.id.as_str()));
    for (prompt, scope) in prompts.iter().zip(&scopes) {
        rule(file, &about("", &prompt.about), "prompt", &prompt.id, scope);
        names.describe(scope, &prompt.about, &format!("Use the prompt {}", prompt.id));
    }
    denied(file, "prompt", &unnamed);
}

fn resources(file: &mut String, offer: &Offer, names: &mut Names) {
    let groups = groups(offer);
    heading(file, "Resources", !groups.is_empty());
    if groups.iter().any(|group| group.pattern.contains('*')) {
        line(file, "# * stands for any text, one with .. in it too: what that means is the server's to say.");
    }
    let scopes = names.give("resource", groups.iter().map(|group| group.name.as_str()));
    for (group, scope) in groups.iter().zip(&scopes) {
        rule(file, &group.about, "resource", &group.pattern, scope);
        names.describe(scope, &About::default(), &format!("Read {}", group.pattern));
    }
    let alone = |entry: &&Entry| !groups.iter().any(|group| pattern_matches(&group.pattern, &entry.id));
    let unnamed: Vec<&str> = offer.resources.iter().filter(alone).map(|entry| entry.id.as_str()).collect();
    denied(file, "resource", &unnamed);
}

/// Resources that one rule is about.
struct Group {
    pattern: String,
    name: String,
    about: String,
}

/// A group per template, and one per scheme for the other resources: a single one by its URI, several
/// by the path that they have in common. No group's pattern is within another's, because then its
/// resources would need both scopes.
fn groups(offer: &Offer) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for template in offer.templates.iter().filter(|template| !template.id.is_empty()) {
        let about = about(&format!("template {}", remark(&template.id)), &template.about);
        groups.push(Group { pattern: glob(&template.id), name: template.name.clone(), about });
    }
    let mut schemes: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for resource in offer.resources.iter().filter(|resource| seen.insert(&resource.id)) {
        if !groups.iter().any(|group| pattern_matches(&group.pattern, &resource.id)) {
            let scheme = resource.id.split_once(':').map_or(resource.id.as_str(), |(scheme, _)| scheme);
            schemes.entry(scheme).or_default().push(resource);
        }
    }
    for (scheme, members) in schemes {
        let prefix = common_path(members.iter().map(|entry| entry.id.as_str()));
        match members.as_slice() {
            [single] if is_nameable(&single.id) => groups.push(Group {
                pattern: single.id.clone(),
                name: single.name.clone(),
                about: about("", &single.about),
            }),
            _ if !prefix.is_empty() => groups.push(Group {
                pattern: format!("{prefix}*"),
                name: scheme.to_owned(),
                about: about(&members_of(&members), &About::default()),
            }),
            // Without a common beginning `*` would be about everything.
            _ => {}
        }
    }
    let within = |inner: &Group, outer: &Group| pattern_matches(&outer.pattern, &inner.pattern);
    let mut widest: Vec<Group> = Vec::new();
    for group in groups {
        match widest.iter_mut().find(|wide| within(&group, wide)) {
            Some(wide) => also(wide, &group),
            None => {
                let mut group = group;
                widest.retain(|narrow| {
                    let covered = within(narrow, &group);
                    if covered {
                        also(&mut group, narrow);
                    }
                    !covered
                });
                widest.push(group);
            }
        }
    }
    widest
}

fn also(group: &mut Group, other: &Group) {
    if other.pattern != group.pattern {
        group.about = cut(&format!("{}; also {}", group.about, remark(&other.pattern)));
    }
}

fn members_of(members: &[&Entry]) -> String {
    let names: Vec<String> = members.iter().take(4).map(|entry| remark(&entry.name)).collect();
    let more = if members.len() > names.len() { ", …" } else { "" };
    format!("{} resources: {}{more}", members.len(), names.join(", "))
}

/// `template` (RFC 6570) with `*` for each expression.
pub(super) fn glob(template: &str) -> String {
    let mut glob = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((literal, expression)) = rest.split_once('{') {
        glob.push_str(literal);
        glob.push('*');
        rest = expression.split_once('}').map_or("", |(_, rest)| rest);
    }
    glob.push_str(rest);
    while glob.contains("**") {
        glob = glob.replace("**", "*");
    }
    glob
}

/// What all of `uris` begin with, to the end of a part of their paths and without `*`.
fn common_path<'u>(uris: impl Iterator<Item = &'u str>) -> &'u str {
    let common = |a: &'u str, b: &'u str| {
        let same = a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b);
        &a[..same.last().map_or(0, |((start, char), _)| start + char.len_utf8())]
    };
    let prefix = uris.reduce(common).unwrap_or_default();
    let prefix = prefix.split('*').next().unwrap_or_default();
    prefix.rfind(['/', ':']).map_or("", |end| &prefix[..=end])
}

/// What a rule can be about, each once, and the names that no rule can hold.
fn nameable<T>(all: &[T], name: impl Fn(&T) -> &String) -> (Vec<&T>, Vec<&str>) {
    let mut seen = HashSet::new();
    let distinct = all.iter().filter(|entry| seen.insert(name(entry).as_str()));
    let (nameable, unnamed): (Vec<&T>, Vec<&T>) = distinct.partition(|entry| is_nameable(name(entry)));
    (nameable, unnamed.into_iter().map(|entry| name(entry).as_str()).collect())
}

/// Whether a rule with this text is about this alone.
fn is_nameable(text: &str) -> bool {
    !text.is_empty() && !text.contains('*')
}

fn heading(file: &mut String, text: &str, there_are_some: bool) {
    if there_are_some {
        line(file, &format!("\n# {text}"));
    }
}

fn about(hint: &str, about: &About) -> String {
    let parts = [Some(hint), about.title.as_deref(), about.description.as_deref()];
    let parts: Vec<String> = parts.into_iter().flatten().map(remark).filter(|part| !part.is_empty()).collect();
    parts.join(": ")
}

fn rule(file: &mut String, about: &str, kind: &str, pattern: &str, scope: &str) {
    file.push('\n');
    if !about.is_empty() {
        line(file, &format!("# {about}"));
    }
    line(file, "[[policy.rule]]");
    line(file, &format!("{kind} = {}", toml(pattern)));
    line(file, &format!("scopes = [{}]", toml(scope)));
}

fn denied(file: &mut String, kind: &str, names: &[&str]) {
    for name in names {
        let what = format!("# No rule can be about the {kind} {} alone: * stands for any text there.", toml(name));
        line(file, &format!("\n{what} It is denied."));
    }
}

fn line(file: &mut String, text: &str) {
    file.push_str(text);
    file.push('\n');
}

/// `text`, which is on one line, cut when it is very long.
fn cut(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
