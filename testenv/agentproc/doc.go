// Package agentproc runs the project's real binaries as processes for a test:
// it builds them, starts, kills and cleans up an agent with folders of its
// own, and takes inventory of all that the agent's pods have on the machine.
// It must be called inside a namespace of the test's own (testenv/netns.Run):
// it never looks at, or changes, anything that belongs to another root.
package agentproc
