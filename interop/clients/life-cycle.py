"""The life of a protected machine, by Microsoft's Python clients as their users have them; one step a run.

Reads from the environment: VAULT_URL, VAULT_CA (file), VAULT_TOKEN_FILE, SUBSCRIPTION, and the machine's id for `enable`.
Prints one JSON object.
"""

import json
import os
import sys
import time

from azure.core.credentials import AccessToken
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicessiterecovery import SiteRecoveryManagementClient

GROUP, VAULT, ITEM = "rg", "vault", "py01"


class Credential:
    def get_token(self, *scopes, **options):
        with open(os.environ["VAULT_TOKEN_FILE"]) as file:
            return AccessToken(file.read().strip(), int(time.time()) + 3600)


OPTIONS = dict(
    base_url=os.environ["VAULT_URL"],
    connection_verify=os.environ["VAULT_CA"],
    credential_scopes=["https://vault.local/.default"],
    polling_interval=0,
    retry_total=0,
)
SUBSCRIPTION = os.environ["SUBSCRIPTION"]
rs = RecoveryServicesClient(Credential(), SUBSCRIPTION, **OPTIONS)
sr = SiteRecoveryManagementClient(Credential(), SUBSCRIPTION, GROUP, VAULT, **OPTIONS)
items = sr.replication_protected_items


def place():
    fabric = next(iter(sr.replication_fabrics.list()))
    container = next(
        iter(sr.replication_protection_containers.list_by_replication_fabrics(fabric.name))
    )
    return fabric.name, container.name


def enable():
    rs.vaults.begin_create_or_update(
        GROUP, VAULT, {"location": "local", "sku": {"name": "RS0"}, "properties": {}}
    ).result()
    policy = sr.replication_policies.begin_create(
        "python",
        {
            "properties": {
                "providerSpecificInput": {
                    "instanceType": "InMageAzureV2",
                    "recoveryPointHistory": 1440,
                    "multiVmSyncStatus": "Disable",
                }
            }
        },
    ).result()
    fabric, container = place()
    machines = sr.replication_protectable_items.list_by_replication_protection_containers(
        fabric, container
    )
    machine = next(one for one in machines if one.name == os.environ["MACHINE_ID"])
    made = items.begin_create(
        fabric,
        container,
        ITEM,
        {
            "properties": {
                "policyId": policy.id,
                "protectableItemId": machine.id,
                "providerSpecificDetails": {"instanceType": "InMageAzureV2"},
            }
        },
    ).result()
    return {"state": made.properties.protection_state}


def fail_over():
    fabric, container = place()
    at = (fabric, container, ITEM)
    points = list(sr.recovery_points.list_by_replication_protected_items(*at))
    details = {"instanceType": "InMageAzureV2"}
    tested = items.begin_test_failover(
        *at,
        {
            "properties": {
                "failoverDirection": "PrimaryToRecovery",
                "networkType": "NoNetworkAttachAsInput",
                "providerSpecificDetails": {**details, "recoveryPointId": points[-1].id},
            }
        },
    ).result()
    cleaned = items.begin_test_failover_cleanup(*at, {"properties": {"comments": "well"}}).result()
    failed_over = items.begin_unplanned_failover(
        *at,
        {
            "properties": {
                "failoverDirection": "PrimaryToRecovery",
                "sourceSiteOperations": "NotRequired",
                "providerSpecificDetails": details,
            }
        },
    ).result()
    items.begin_apply_recovery_point(
        *at,
        {"properties": {"recoveryPointId": points[-1].id, "providerSpecificDetails": details}},
    ).result()
    committed = items.begin_failover_commit(*at).result()
    items.begin_delete(*at, {"properties": {"disableProtectionReason": "NotSpecified"}}).result()
    return {
        "points": [point.properties.recovery_point_type for point in points],
        "tested": tested.properties.test_failover_state,
        "cleaned": cleaned.properties.test_failover_state,
        "failedOver": failed_over.properties.protection_state,
        "committed": committed.properties.protection_state,
        "items": len(list(items.list())),
    }


print(json.dumps({"enable": enable, "fail-over": fail_over}[sys.argv[1]]()))
