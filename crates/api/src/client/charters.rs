//! Groups with a charter.

use super::{Client, ClientError, Method, path_segment};
use crate::types::{
    AdmissionView, AdmitRequest, CharterCreateRequest, CharterGroup, CharterGroups,
    CharterJoinRequest, Done, ExpelRequest,
};

impl Client {
    /// `GET /v1/charters`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn charters(&self) -> Result<CharterGroups, ClientError> {
        self.get("/v1/charters").await
    }

    /// `POST /v1/charters`: founds a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn charter_create(
        &self,
        request: &CharterCreateRequest,
    ) -> Result<CharterGroup, ClientError> {
        self.post("/v1/charters", request).await
    }

    /// `POST /v1/charters/join`.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_verified` when the charter does not hold.
    pub async fn charter_join(
        &self,
        request: &CharterJoinRequest,
    ) -> Result<CharterGroup, ClientError> {
        self.post("/v1/charters/join", request).await
    }

    /// `GET /v1/charters/{name}`.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_found` when no such group is kept.
    pub async fn charter_show(&self, name: &str) -> Result<CharterGroup, ClientError> {
        self.get(&format!("/v1/charters/{}", path_segment(name))).await
    }

    /// `DELETE /v1/charters/{name}`: forgets a group and the admissions to it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn charter_leave(&self, name: &str) -> Result<Done, ClientError> {
        let route = format!("/v1/charters/{}", path_segment(name));
        self.json(Method::DELETE, &route, None).await
    }

    /// `POST /v1/charters/{name}/admit`.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_permitted` when this agent is no steward.
    pub async fn charter_admit(
        &self,
        name: &str,
        request: &AdmitRequest,
    ) -> Result<AdmissionView, ClientError> {
        self.post(&format!("/v1/charters/{}/admit", path_segment(name)), request).await
    }

    /// `POST /v1/charters/{name}/expel`.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_permitted` when there is nothing that this agent can take back.
    pub async fn charter_expel(
        &self,
        name: &str,
        request: &ExpelRequest,
    ) -> Result<Done, ClientError> {
        self.post(&format!("/v1/charters/{}/expel", path_segment(name)), request).await
    }
}
