/** What may be behind a refusal of the API, by its code: shown as `possibleCauses` beside the message, which says what is wrong. */
export const POSSIBLE_CAUSES = {
  AuthenticationFailed: "The request has no Authorization header, or another scheme than Bearer.",
  InvalidAuthenticationToken:
    "The token was revoked, belongs to another vault, was cut off when it was copied, or its vault was made anew.",
  ExpiredAuthenticationToken:
    "The token's hours are over, or the clock of the vault's machine is wrong.",
  AuthorizationFailed:
    "The token has no role at this scope, a role that allows less, or its role assignment was deleted.",
  FabricCreationNotSupported:
    "Azure sites are made so; a site of VMware or physical machines is not.",
  InternalServerError: "A defect of the vault; its log has the details under the activity id.",
  InvalidParameter:
    "A field or query parameter has another type or value than the API's, or was left out.",
  InvalidRequestContent: "The body is missing, cut off, not JSON, or not in UTF-8.",
  InvalidResourceType: "A segment of the path is misspelt, or belongs to another provider.",
  JobOutdated:
    "Somebody did something else with the machine after the job had ended, which a restart would undo.",
  MappingExists: "The name is taken by the association of another policy.",
  MappingInUse: "Machines replicate by the policy that the mapping associates.",
  MethodNotAllowed: "The resource exists, and has no such operation.",
  MissingApiVersionParameter:
    "The client builds its addresses by hand, or lost the query on the way.",
  NetworkDiffers: "The network was made before with another subnet or gateway.",
  NetworkInUse: "A machine runs in the network, or an item names it for its failover.",
  NetworkNotFound: "The network was deleted, was never created, or its name is misspelt.",
  OperationNotAllowed:
    "The state of the item has changed since it was shown, or another operation comes first.",
  OperationNotSupported:
    "The operation is one of Azure for another scenario than VMware and physical machines.",
  PolicyInUse: "The policy is associated with a site.",
  PolicyProviderMismatch: "The name is taken by a policy of another scenario.",
  ProtectedItemExists:
    "The machine was enabled before, maybe under another name or by somebody else.",
  ReplicaInUse: "A failover or a test failover runs in the machine, or is about to.",
  ReplicaNotRunning:
    "Nothing was failed over yet, it was cleaned up, or its machine is turned off.",
  ResourceInUse: "Other resources refer to it.",
  ResourceNotFound: "It was deleted, was never made, or its name is misspelt.",
  ServiceUnavailable: "The database is restarting, out of connections, or stopped.",
  TooManyNetworks: "Networks of old tests were never deleted.",
  TooManyRequests: "Many clients share the token, or one asks in a loop without waiting.",
  // Errors of other packages that a request may end with: arm-reply.ts has their status.
  INPUT_INVALID: "A field has another type or value than the API's, or was left out.",
  BODY_TOO_LARGE: "The body holds more than a request may.",
  BODY_INCOMPLETE: "The connection was lost while the body was sent.",
  JOB_STATE: "The job has ended meanwhile, or is of a kind that cannot be treated so.",
  JOB_NOT_FOUND: "The job is of another vault, or older than jobs are kept.",
  STOPPING: "The vault is being stopped or updated.",
  VAULT_STOPPING: "The vault is being stopped or updated.",
  STORE_UNAVAILABLE: "The storage account is down, or the way to it is cut.",
  REPLICA_HOST_AWAY: "The replica host is stopped, starting, or the way to it is cut.",
  REPLICA_HOST_STOPPING: "The replica host is being stopped or updated.",
  REPLICA_UNADOPTED:
    "The machine was started by a replica host that ended, and the new one has yet to take it over.",
} as const;

/** Codes of refusals, in ARM's spelling where they are the API's own. */
export type ArmCode = keyof typeof POSSIBLE_CAUSES;

export function isArmCode(code: string): code is ArmCode {
  return Object.hasOwn(POSSIBLE_CAUSES, code);
}
