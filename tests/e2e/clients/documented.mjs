// The sample of Flowise's streaming documentation, with host, flow and question from the command line.
import { createRequire } from 'node:module'

const { FlowiseClient } = createRequire(process.cwd() + '/package.json')('flowise-sdk')
const [baseUrl, chatflowId, question] = process.argv.slice(2)

async function test_streaming() {
    const client = new FlowiseClient({ baseUrl })
    // For streaming prediction
    const prediction = await client.createPrediction({ chatflowId, question, streaming: true })
    for await (const chunk of prediction) {
        // {event: "token", data: "hello"}
        console.log(JSON.stringify(chunk))
    }
}

await test_streaming()
