/** Of the service, from its start to its clean end; it outlives an agent that is killed. */
export const TRACKER_INSTANCE = "osr-mobility-service";
/** For the moment in which an agent learns how changes of its disks show. */
export const LEARNING_INSTANCE = "osr-mobility-learning";
