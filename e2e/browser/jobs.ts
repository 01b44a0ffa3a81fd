// What a page runs that calls the job server of examples/bridge through Roster: plain fetch, and
// Connect-Web with the types of a descriptor set. bridge.ts bundles it and serves it to the browser.

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";

export interface Way {
  baseUrl: string;
  protocol: "connect" | "grpcweb";
  binary: boolean;
}

export interface Seen {
  /** The job as plain fetch got it. */
  fetched: Record<string, unknown>;
  /** The steps of the replies of the server stream. */
  steps: number[];
  /** Of the last reply. */
  state: number;
  /** The code and text of the call of a job that does not exist. */
  failure: string;
}

interface Job {
  id: bigint;
  step: number;
  state: number;
}

interface Jobs {
  submit(request: { name: string; steps: number }): Promise<Job>;
  get(request: { id: bigint }): Promise<Job>;
  watch(request: { id: bigint }): AsyncIterable<Job>;
}

async function callJobs({ baseUrl, protocol, binary }: Way): Promise<Seen> {
  const reply = await fetch(`${baseUrl}/jobs.v1.JobService/Submit`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "report", steps: 2 }),
  });
  const fetched = (await reply.json()) as Record<string, unknown>;

  const schema = new Uint8Array(await (await fetch("/jobs.binpb")).arrayBuffer());
  const service = createFileRegistry(fromBinary(FileDescriptorSetSchema, schema)).getService("jobs.v1.JobService");
  if (!service) throw new Error("the descriptor set has no JobService");
  const options = { baseUrl, useBinaryFormat: binary };
  const transport = protocol === "connect" ? createConnectTransport(options) : createGrpcWebTransport(options);
  const client = createClient(service, transport) as unknown as Jobs;

  const { id } = await client.submit({ name: "report", steps: 3 });
  const steps: number[] = [];
  let state = 0;
  for await (const job of client.watch({ id })) {
    steps.push(job.step);
    state = job.state;
  }
  try {
    await client.get({ id: 999_999n });
    return { fetched, steps, state, failure: "" };
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return { fetched, steps, state, failure: `${Code[code]}: ${rawMessage}` };
  }
}

Object.assign(globalThis, { callJobs });
