// The life of a protected machine, by Microsoft's Go client of 2022 (track 1, API of 2018) as its users have it; one step a run.
//
// Reads from the environment: VAULT_URL, VAULT_CA (file), VAULT_TOKEN_FILE, SUBSCRIPTION, and the machine's id for `enable`.
// Prints one JSON object.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	sr "github.com/Azure/azure-sdk-for-go/services/recoveryservices/mgmt/2018-07-10/siterecovery"
	"github.com/Azure/go-autorest/autorest"
)

const group, vault, item = "rg", "vault", "go01"

var ctx = context.Background()

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func done(err error) { must(0, err) }

func text(value string) *string { return &value }

type bearer struct{}

func (bearer) WithAuthorization() autorest.PrepareDecorator {
	token := strings.TrimSpace(string(must(os.ReadFile(os.Getenv("VAULT_TOKEN_FILE")))))
	return autorest.WithHeader("Authorization", "Bearer "+token)
}

func set(client *autorest.Client) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(os.Getenv("VAULT_CA"))))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	client.Sender = &http.Client{Transport: transport}
	client.Authorizer = bearer{}
	client.PollingDelay = 10 * time.Millisecond
	client.RetryAttempts = 1
}

var (
	url, subscription = os.Getenv("VAULT_URL"), os.Getenv("SUBSCRIPTION")
	items             = sr.NewReplicationProtectedItemsClientWithBaseURI(url, subscription, group, vault)
)

func place() (string, string) {
	fabrics := sr.NewReplicationFabricsClientWithBaseURI(url, subscription, group, vault)
	set(&fabrics.Client)
	fabric := *must(fabrics.List(ctx)).Values()[0].Name
	containers := sr.NewReplicationProtectionContainersClientWithBaseURI(url, subscription, group, vault)
	set(&containers.Client)
	return fabric, *must(containers.ListByReplicationFabrics(ctx, fabric)).Values()[0].Name
}

func enable() map[string]any {
	policies := sr.NewReplicationPoliciesClientWithBaseURI(url, subscription, group, vault)
	set(&policies.Client)
	history := int32(1440)
	making := must(policies.Create(ctx, "go", sr.CreatePolicyInput{Properties: &sr.CreatePolicyInputProperties{
		ProviderSpecificInput: sr.InMageAzureV2PolicyInput{RecoveryPointHistory: &history, MultiVMSyncStatus: "Disable"},
	}}))
	done(making.WaitForCompletionRef(ctx, policies.Client))
	policy := must(making.Result(policies))
	fabric, container := place()
	machines := sr.NewReplicationProtectableItemsClientWithBaseURI(url, subscription, group, vault)
	set(&machines.Client)
	var machineID *string
	for _, machine := range must(machines.ListByReplicationProtectionContainers(ctx, fabric, container, "")).Values() {
		if *machine.Name == os.Getenv("MACHINE_ID") {
			machineID = machine.ID
		}
	}
	enabling := must(items.Create(ctx, fabric, container, item, sr.EnableProtectionInput{
		Properties: &sr.EnableProtectionInputProperties{
			PolicyID: policy.ID, ProtectableItemID: machineID, ProviderSpecificDetails: sr.InMageAzureV2EnableProtectionInput{},
		},
	}))
	done(enabling.WaitForCompletionRef(ctx, items.Client))
	made := must(enabling.Result(items))
	return map[string]any{"state": made.Properties.ProtectionState}
}

func failOver() map[string]any {
	fabric, container := place()
	points := sr.NewRecoveryPointsClientWithBaseURI(url, subscription, group, vault)
	set(&points.Client)
	types := []string{}
	var oldest *string
	for _, point := range must(points.ListByReplicationProtectedItems(ctx, fabric, container, item)).Values() {
		types = append(types, *point.Properties.RecoveryPointType)
		oldest = point.ID
	}
	direction := text("PrimaryToRecovery")
	testing := must(items.TestFailover(ctx, fabric, container, item, sr.TestFailoverInput{
		Properties: &sr.TestFailoverInputProperties{
			FailoverDirection: direction, NetworkType: text("NoNetworkAttachAsInput"),
			ProviderSpecificDetails: sr.InMageAzureV2TestFailoverInput{RecoveryPointID: oldest},
		},
	}))
	done(testing.WaitForCompletionRef(ctx, items.Client))
	tested := must(testing.Result(items))
	cleaning := must(items.TestFailoverCleanup(ctx, fabric, container, item, sr.TestFailoverCleanupInput{
		Properties: &sr.TestFailoverCleanupInputProperties{Comments: text("well")},
	}))
	done(cleaning.WaitForCompletionRef(ctx, items.Client))
	cleaned := must(cleaning.Result(items))
	failing := must(items.UnplannedFailover(ctx, fabric, container, item, sr.UnplannedFailoverInput{
		Properties: &sr.UnplannedFailoverInputProperties{
			FailoverDirection: direction, SourceSiteOperations: text("NotRequired"),
			ProviderSpecificDetails: sr.InMageAzureV2UnplannedFailoverInput{},
		},
	}))
	done(failing.WaitForCompletionRef(ctx, items.Client))
	failedOver := must(failing.Result(items))
	changing := must(items.ApplyRecoveryPoint(ctx, fabric, container, item, sr.ApplyRecoveryPointInput{
		Properties: &sr.ApplyRecoveryPointInputProperties{
			RecoveryPointID: oldest, ProviderSpecificDetails: sr.InMageAzureV2ApplyRecoveryPointInput{},
		},
	}))
	done(changing.WaitForCompletionRef(ctx, items.Client))
	committing := must(items.FailoverCommit(ctx, fabric, container, item))
	done(committing.WaitForCompletionRef(ctx, items.Client))
	committed := must(committing.Result(items))
	deleting := must(items.Delete(ctx, fabric, container, item, sr.DisableProtectionInput{
		Properties: &sr.DisableProtectionInputProperties{DisableProtectionReason: "NotSpecified"},
	}))
	done(deleting.WaitForCompletionRef(ctx, items.Client))
	return map[string]any{
		"points":     types,
		"tested":     tested.Properties.TestFailoverState,
		"cleaned":    cleaned.Properties.TestFailoverState,
		"failedOver": failedOver.Properties.ProtectionState,
		"committed":  committed.Properties.ProtectionState,
		"items":      len(must(items.List(ctx, "", "")).Values()),
	}
}

func main() {
	set(&items.Client)
	step := map[string]func() map[string]any{"enable": enable, "fail-over": failOver}[os.Args[1]]
	fmt.Println(string(must(json.Marshal(step()))))
}
