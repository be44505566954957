//! Which scope a call needs, for whoever enforces scopes.

use rmcp::model::{CallToolResult, ContentBlock};

use super::{Era, TOOL_NAME, arguments::Arguments, identity};
use crate::calculator::Operation;

/// The scope of one operation.
pub const fn scope_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Add => "op:add",
        Operation::Subtract => "op:sub",
        Operation::Multiply => "op:mult",
        Operation::Divide => "op:div",
    }
}

/// The scope that a call needs; `None` for a call that runs nothing, because its answer only says what
/// is wrong with it. `arguments` is JSON text, as for [`call_tool`](super::call_tool).
pub fn needed_scope(name: &str, arguments: Option<&str>) -> Option<&'static str> {
    let arguments = (name == TOOL_NAME).then(|| Arguments::parse(arguments))?.ok()?;
    Some(scope_of(arguments.operation))
}

/// The answer to a call that is not allowed: an error result, because the model that called can read
/// `text` and tell its user.
pub fn refusal(era: Era, text: String) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
    match era {
        Era::Legacy => result.result_type = None,
        Era::Modern => result.meta = Some(identity::RESULT_META.clone()),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_calculates_needs_the_scope_of_its_operation() {
        for (operation, scope) in
            [("add", "op:add"), ("subtract", "op:sub"), ("multiply", "op:mult"), ("divide", "op:div")]
        {
            let arguments = format!(r#"{{"operation":"{operation}","a":1,"b":2}}"#);
            assert_eq!(needed_scope(TOOL_NAME, Some(&arguments)), Some(scope));
            assert_eq!(needed_scope("other", Some(&arguments)), None);
        }
        for nothing_runs in
            [None, Some("[]"), Some("{"), Some(r#"{"operation":"add","operation":"divide","a":1,"b":2}"#)]
        {
            assert_eq!(needed_scope(TOOL_NAME, nothing_runs), None, "{nothing_runs:?}");
        }
    }
}
