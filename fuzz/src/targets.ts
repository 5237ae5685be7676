import type { FuzzTarget } from "@osr/base/testing/fuzz-target";
import { agentProtocolFuzz } from "@osr/contracts/agent-protocol.fuzz";
import { hrlHeaderFuzz, hrlRecordsFuzz } from "@osr/contracts/hrl-record.fuzz";
import { tagFuzz } from "@osr/contracts/tag.fuzz";
import { nbdConnectionFuzz, nbdTransmissionFuzz } from "@osr/nbd/nbd-connection.fuzz";
import { nbdNegotiationFuzz } from "@osr/nbd/negotiation.fuzz";
import { batchFuzz } from "@osr/process-server/batch.fuzz";
import {
  journalEntryFuzz,
  journalFuzz,
  journalHeadFuzz,
} from "@osr/process-server/journal-format.fuzz";
import { blobPageFuzz } from "@osr/repository/azure-blob-store-list.fuzz";
import { frameFuzz } from "@osr/repository/frame.fuzz";
import { objectHeaderFuzz } from "@osr/repository/object-header.fuzz";
import {
  diskDescriptorFuzz,
  objectNameFuzz,
  recoveryPointFuzz,
  wrappedKeyFuzz,
} from "@osr/repository/recovery-point.fuzz";
import { segmentFooterFuzz } from "@osr/repository/segment-footer.fuzz";
import {
  indexDirectoryFuzz,
  indexSealFuzz,
  indexShardFuzz,
} from "@osr/repository/segment-index.fuzz";
import { segmentFuzz } from "@osr/repository/segment.fuzz";
import { blobRequestFuzz } from "@osr/storage-account/blob-request.fuzz";
import { managementApiFuzz } from "@osr/vault/management-api.fuzz";

/** Every parser of bytes that come from outside the process. */
export const TARGETS: readonly FuzzTarget[] = [
  hrlRecordsFuzz,
  hrlHeaderFuzz,
  tagFuzz,
  agentProtocolFuzz,
  batchFuzz,
  journalFuzz,
  journalEntryFuzz,
  journalHeadFuzz,
  objectHeaderFuzz,
  frameFuzz,
  indexSealFuzz,
  indexDirectoryFuzz,
  indexShardFuzz,
  segmentFooterFuzz,
  segmentFuzz,
  recoveryPointFuzz,
  diskDescriptorFuzz,
  wrappedKeyFuzz,
  objectNameFuzz,
  blobPageFuzz,
  nbdNegotiationFuzz,
  nbdTransmissionFuzz,
  nbdConnectionFuzz,
  blobRequestFuzz,
  managementApiFuzz,
];
