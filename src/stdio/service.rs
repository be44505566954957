//! The face that rmcp's runtime calls.

use std::sync::Arc;

use rmcp::{
    RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, DiscoverResult, ErrorData, InitializeRequestParams, InitializeResult,
        ListToolsResult, PaginatedRequestParams,
    },
    service::RequestContext,
};

use super::Access;
use crate::server::{self, Era};

/// The JSON text of a call's arguments, beside the request: rmcp's own field would round numbers,
/// merge names that occur twice, and fail on `1e400`.
#[derive(Clone)]
pub(super) struct RawArguments(pub(super) Arc<str>);

/// Answers with the functions of [`server`] what `access` allows, or everything without it; keeps
/// nothing.
pub(super) struct Calculator {
    pub(super) access: Option<Arc<dyn Access>>,
}

impl ServerHandler for Calculator {
    fn get_info(&self) -> InitializeResult {
        server::initialize(server::LEGACY_VERSIONS[0])
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        Ok(server::initialize(request.protocol_version.as_str()))
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        Ok(server::discover().clone())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(server::list_tools(era(&context)).clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = context.extensions.get::<RawArguments>().map(|arguments| &*arguments.0);
        if let Some(access) = &self.access
            && let Some(scope) = server::needed_scope(&request.name, arguments)
            && let Err(why) = access.check(scope).await
        {
            return Ok(server::refusal(era(&context), why).into());
        }
        server::call_tool(era(&context), &request.name, arguments, None).map(CallToolResponse::from)
    }
}

/// The era of a request that the reader let through: only modern ones carry a version.
fn era(context: &RequestContext<RoleServer>) -> Era {
    if context.meta.protocol_version().is_some() { Era::Modern } else { Era::Legacy }
}
