import { defineErrors } from "@osr/base/errors";

export const HTTPS_ERRORS = defineErrors({
  PEER_UNAVAILABLE: {
    retryable: true,
    hint: "Check that the peer runs and that the network and the proxy let the connection through; it is tried again.",
  },
  PEER_UNTRUSTED: {
    retryable: false,
    hint: "One side does not trust the other's certificate: compare the site authorities, the names in the certificates and the clocks.",
  },
  CERTIFICATE_REQUIRED: {
    retryable: false,
    hint: "Enrol with the configuration server, so that there is a certificate of its site.",
  },
  CERTIFICATE_EXPIRED: {
    retryable: false,
    hint: "Compare the clocks of both sides. Certificates are renewed in time where the configuration server is reached; else enrol again.",
  },
  CERTIFICATE_REVOKED: {
    retryable: false,
    hint: "An administrator has revoked this role. Enrol it again with a new token, if it is to come back.",
  },
  CERTIFICATE_UNTRUSTED: {
    retryable: false,
    hint: "The certificate is of another site. Enrol with the configuration server of the site that this role belongs to.",
  },
  REPLY_INVALID: {
    retryable: false,
    hint: "The peer answered in a way that this version does not know. Compare the versions of both sides and look for a proxy between them.",
  },
  REPLY_TOO_LARGE: { retryable: false, hint: "Compare the versions of both sides." },
  BODY_TOO_LARGE: { retryable: false, hint: "Send less in one request." },
  BODY_INCOMPLETE: { retryable: true, hint: "The connection ended early; send the request again." },
  STOPPING: { retryable: true, hint: "The role is being stopped; try again when it is back." },
  INTERNAL: {
    retryable: false,
    hint: "This is a defect of Open Site Recovery. Please report it with the log of the role that answered.",
  },
});
